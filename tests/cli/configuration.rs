//! `check`, `--print-defaults`, completions and manual pages: what the program says of itself, as an operator sees it.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::folder::Folder;

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookswitch"));
    command.args(arguments).env_remove("HOOKSWITCH_CONFIG").output().expect("it starts")
}

fn said(arguments: &[&str]) -> String {
    let output = run(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("it prints text")
}

#[test]
fn the_sample_and_the_page_are_what_the_program_prints() {
    for (argument, file) in
        [("--print-defaults", "systemd/hookswitch.toml"), ("--print-defaults=markdown", "docs/configuration.md")]
    {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            said(&[argument]) == kept,
            "{file} is not what `hookswitch {argument}` prints; `make config` writes it anew"
        );
    }
}

#[test]
fn what_is_printed_is_a_good_configuration() {
    let folder = Folder::new("cli-defaults");
    let file = folder.write("hookswitch.toml", said(&["--print-defaults"])).display().to_string();
    assert_eq!(said(&["check", &file]), "the configuration is good\n");
    assert_eq!(said(&["--config", &file, "check"]), "the configuration is good\n");
}

#[test]
fn a_check_names_all_mistakes_at_once_and_ends_with_1() {
    let folder = Folder::new("cli-check");
    let text = "[http]\nlisten = \"nowhere\"\n[registrar]\nexpires_max_s = \"2h\"\nkeepalive = 25\n\
                [listeners.office]\nbind = \"udp:127.0.0.1:5070\"\n[feeds.x]\nkind = \"asterix\"\nsecret = \"s3cret\"\n";
    let file = folder.write("hookswitch.toml", text).display().to_string();
    let output = run(&["check", &file]);
    assert_eq!(output.status.code(), Some(1));
    let report = String::from_utf8(output.stderr).expect("it prints text");
    let expected = format!(
        "hookswitch: 5 mistakes in {file}:\n  \
         line 2: http.listen: \"nowhere\" is no address and port; write 127.0.0.1:8080 or [::1]:8080\n  \
         line 4: registrar.expires_max_s: must be a whole number of seconds, not a string; write expires_max_s = 7200\n  \
         line 5: registrar.keepalive: no such key; did you mean keepalive_s?\n  \
         line 6: listeners.office.mode: is needed, e.g. mode = \"registrar\"; there are replica, mirror and hep as well\n  \
         line 9: feeds.x.kind: \"asterix\" is no kind of feed; there are asterisk, freeswitch and subscription; \
         did you mean \"asterisk\"?\n"
    );
    assert_eq!(report, expected);
    let absent = run(&["check", &format!("{file}.gone")]);
    assert_eq!(absent.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&absent.stderr).contains("can't read"), "{absent:?}");
}

#[test]
fn shells_complete_commands_and_options() {
    let folder = Folder::new("cli-completions");
    let script = folder.write("hookswitch.bash", said(&["completions", "bash"])).display().to_string();
    let complete = |words: &str| {
        let line = format!(
            "source '{script}'; COMP_WORDS=(hookswitch {words}); COMP_CWORD=1; \
             _hookswitch hookswitch {words} hookswitch; echo \"${{COMPREPLY[@]}}\""
        );
        let output = Command::new("bash").args(["--norc", "-c", &line]).output().expect("bash starts");
        String::from_utf8(output.stdout).expect("words are text")
    };
    assert_eq!(complete("comp").trim(), "completions");
    assert_eq!(complete("--print").trim(), "--print-defaults");
    for shell in ["zsh", "fish"] {
        assert!(said(&["completions", shell]).contains("print-defaults"), "{shell}");
    }
}

#[test]
fn every_command_has_a_manual_page() {
    let page = said(&["man"]);
    assert!(page.contains(".TH hookswitch 1") && page.contains("hookswitch\\-check(1)"), "{page}");
    let folder = Folder::new("cli-man");
    let pages = folder.join("man1");
    said(&["man", &pages.display().to_string()]);
    for name in ["hookswitch.1", "hookswitch-serve.1", "hookswitch-check.1", "hookswitch-token-create.1"] {
        let page = std::fs::read_to_string(pages.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(page.contains(".SH NAME"), "{name}");
    }
}
