//! The Debian package, made of the program under test, in the hands of the real dpkg: what is in it, and how it comes, changes
//! and goes under a root of its own. No script of it starts anything there.

#[path = "../support/mod.rs"]
mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::folder::Folder;

/// A file system for packages to be installed in.
struct Root(PathBuf);

impl Root {
    fn new(folder: &Folder) -> Self {
        let root = folder.join("root");
        for inner in ["var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers", "etc"] {
            fs::create_dir_all(root.join(inner)).unwrap();
        }
        fs::write(root.join("var/lib/dpkg/status"), "").unwrap();
        Self(root)
    }

    /// Runs dpkg on it; what it and the package's scripts say.
    fn dpkg(&self, arguments: &[&str]) -> String {
        let mut dpkg = Command::new("dpkg");
        dpkg.arg(format!("--root={}", self.0.display())).arg(format!("--log={}", self.0.join("dpkg.log").display()));
        // What it depends on is on this machine, not under that root.
        let forced = ["--force-not-root", "--force-script-chrootless", "--force-depends", "--force-confold"];
        said(dpkg.args(forced).args(arguments).env("PATH", PATH))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Its state as dpkg abbreviates it, and its version.
    fn state(&self) -> String {
        let admin = format!("--admindir={}", self.path("var/lib/dpkg").display());
        said(Command::new("dpkg-query").args([&admin, "-W", "-f", "${db:Status-Abbrev}${Version}", "hookswitch"]))
    }

    /// Everything whose name holds ours.
    fn ours(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut waiting = vec![self.0.clone()];
        while let Some(folder) = waiting.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.file_name().unwrap().to_string_lossy().contains("hookswitch") {
                    found.push(path.strip_prefix(&self.0).unwrap().to_path_buf());
                }
                if path.is_dir() && !path.is_symlink() {
                    waiting.push(path);
                }
            }
        }
        found.sort();
        found
    }
}

/// Runs it; panics with what it said when it fails.
fn said(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{command:?}: {}\n{text}", output.status);
    text
}

/// Makes the package as `make package` does, of the program under test.
fn build(folder: &Folder) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let program = env!("CARGO_BIN_EXE_hookswitch");
    said(Command::new(root.join("packaging/prepare")).args([program, "target/package"]).current_dir(root));
    let package = folder.join("hookswitch.deb");
    let installed = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("tools").join("bin/cargo-deb");
    let mut cargo = if installed.exists() { Command::new(installed) } else { Command::new("cargo-deb") };
    cargo.args(["--no-build", "--offline", "--locked", "--profile", "dev", "--strip", "--fast", "--quiet"]);
    said(cargo.args(["--deb-revision", "1", "--output"]).arg(&package).current_dir(root));
    package
}

/// The same package with a later version and a sample configuration that says something else.
fn later(folder: &Folder, package: &Path) -> PathBuf {
    let (tree, built) = (folder.join("tree"), folder.join("later.deb"));
    said(Command::new("dpkg-deb").arg("-R").args([package, &tree]));
    let control = fs::read_to_string(tree.join("DEBIAN/control")).unwrap();
    assert!(control.contains(&format!("\nVersion: {VERSION}-1\n")), "{control}");
    let control = control.replace(&format!("Version: {VERSION}-1"), &format!("Version: {VERSION}-2"));
    fs::write(tree.join("DEBIAN/control"), control).unwrap();
    let sample = tree.join("etc/hookswitch/hookswitch.toml");
    let text = fs::read_to_string(&sample).unwrap();
    fs::write(&sample, format!("{text}\n# Something is said here that was not before.\n")).unwrap();
    said(Command::new("dpkg-deb").args(["--root-owner-group", "-Znone", "-b"]).args([&tree, &built]));
    built
}

#[test]
fn the_debian_package_installs_upgrades_and_purges_cleanly() {
    let folder = Folder::new("package");
    let package = build(&folder);
    holds_what_it_should(&package);
    let (first, second) = (package.display().to_string(), later(&folder, &package).display().to_string());
    let root = Root::new(&folder);

    let log = root.dpkg(&["-i", &first]);
    assert!(!log.contains("not started"), "{log}");
    assert_eq!(root.state(), format!("ii {VERSION}-1"));
    let program = root.path("usr/bin/hookswitch");
    assert_eq!(said(Command::new(&program).arg("--version")).trim(), format!("hookswitch {VERSION}"));
    let config = root.path("etc/hookswitch/hookswitch.toml");
    assert!(said(Command::new(&program).arg("check").arg(&config)).contains("good"));
    let wanted = root.path("etc/systemd/system/multi-user.target.wants/hookswitch.service");
    assert!(wanted.is_symlink(), "it starts at boot");

    // What an administrator has set, and what was promised, stays over an upgrade.
    let edited = "[http]\nlisten = [\"127.0.0.1:8081\"]\n";
    fs::write(&config, edited).unwrap();
    let data = root.path("var/lib/private/hookswitch/hookswitch.db");
    fs::create_dir_all(data.parent().unwrap()).unwrap();
    fs::write(&data, "data").unwrap();
    fs::remove_file(&wanted).unwrap();
    root.dpkg(&["-i", &second]);
    assert_eq!(root.state(), format!("ii {VERSION}-2"));
    assert_eq!(fs::read_to_string(&config).unwrap(), edited);
    let offered = fs::read_to_string(root.path("etc/hookswitch/hookswitch.toml.dpkg-dist")).unwrap();
    assert!(offered.contains("Something is said here"), "the new sample lies beside it");
    assert_eq!(fs::read_to_string(&data).unwrap(), "data");
    assert!(!wanted.is_symlink(), "what was switched off stays off");

    // A configuration with mistakes leaves a package that is installed and a service that is not touched.
    fs::write(&config, "[http]\nlisten = \"nowhere\"\n").unwrap();
    let log = root.dpkg(&["-i", &second]);
    assert!(log.contains("line 2: http.listen: \"nowhere\" is no address and port"), "{log}");
    assert!(log.contains("hookswitch is installed and not started"), "{log}");
    assert_eq!(root.state(), format!("ii {VERSION}-2"));

    root.dpkg(&["-r", "hookswitch"]);
    assert_eq!(root.state(), format!("rc {VERSION}-2"));
    assert!(!program.exists() && config.exists() && data.exists(), "removing leaves what is not the package's own");
    root.dpkg(&["-P", "hookswitch"]);
    assert_eq!(root.ours(), Vec::<PathBuf>::new(), "nothing is left");
}

fn holds_what_it_should(package: &Path) {
    let control = said(Command::new("dpkg-deb").arg("-f").arg(package));
    for line in ["Package: hookswitch", "Section: comm", "Maintainer: The hookswitch developers"] {
        assert!(control.lines().any(|known| known.starts_with(line)), "{line}\n{control}");
    }
    assert!(control.lines().any(|line| line.starts_with("Depends: ") && line.contains("libc6")), "{control}");
    let conffiles = said(Command::new("dpkg-deb").arg("-I").arg(package).arg("conffiles"));
    assert_eq!(conffiles.trim(), "/etc/hookswitch/hookswitch.toml");
    let list = said(Command::new("dpkg-deb").arg("-c").arg(package));
    for file in [
        "./usr/bin/hookswitch",
        "./usr/lib/systemd/system/hookswitch.service",
        "./usr/lib/systemd/system/hookswitch.socket",
        "./usr/share/man/man1/hookswitch.1.gz",
        "./usr/share/man/man1/hookswitch-check.1.gz",
        "./usr/share/bash-completion/completions/hookswitch",
        "./usr/share/zsh/vendor-completions/_hookswitch",
        "./usr/share/fish/vendor_completions.d/hookswitch.fish",
        "./usr/share/doc/hookswitch/copyright",
    ] {
        assert!(list.lines().any(|line| line.ends_with(&format!(" {file}"))), "{file} is missing:\n{list}");
    }
    for kind in ["CHANGELOG.md", "THIRD-PARTY-LICENSES", "docs/configuration.md"] {
        assert!(list.contains(&format!("./usr/share/doc/hookswitch/{kind}")), "{kind} is missing:\n{list}");
    }
    let strangers = list.lines().filter(|line| !line.contains(" root/root ") && !line.contains(" 0/0 "));
    assert_eq!(strangers.collect::<Vec<_>>(), [""; 0], "all of it belongs to root");
    let texts = said(Command::new("sh").args(["-c", "dpkg-deb --fsys-tarfile \"$0\" | tar -xO --wildcards './usr/share/doc/hookswitch/THIRD-PARTY-LICENSES*' | (gzip -dcf || cat)"]).arg(package));
    for text in ["tokio ", "Permission is hereby granted, free of charge", "Apache License", "unicode"] {
        assert!(texts.contains(text), "the licence texts lack {text:?}");
    }
}

const VERSION: &str = env!("CARGO_PKG_VERSION");
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
