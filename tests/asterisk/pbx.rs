//! The office's Asterisk, run on a copy of `tests/asterisk/conf` in the test's own folder and on free ports.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use crate::ami::Ami;
use crate::support::folder::Folder;
use crate::support::ports::Ports;
use crate::support::process::Process;
use crate::support::wait::until;

/// A running Asterisk.
#[derive(Debug)]
pub struct Pbx {
    /// Where phones register and the trunk sends its calls, on UDP and TCP.
    pub address: SocketAddr,
    /// Where it expects the trunk.
    pub trunk: SocketAddr,
    /// Where a second call from the trunk may come from.
    pub second_trunk: SocketAddr,
    /// Its manager interface; hookswitch is the user `hookswitch` there.
    pub manager: SocketAddr,
    /// The tests' own manager connection.
    pub ami: Ami,
    program: PathBuf,
    run: PathBuf,
    process: Process,
    _ports: Ports,
    _media: Ports,
}

/// Which Asterisk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// The long-term one of 2018.
    Sixteen,
    /// The long-term one of 2024.
    TwentyTwo,
}

impl Pbx {
    /// Starts it; it sends HEP to `hep`. hookswitch may watch it.
    pub async fn start(folder: &Folder, version: Version, hep: SocketAddr) -> Self {
        Self::start_for(folder, version, hep, documented_user(version)).await
    }

    /// The same, and hookswitch may change its queues, as docs/asterisk.md says it is let to.
    pub async fn start_controlled(folder: &Folder, version: Version, hep: SocketAddr) -> Self {
        let watching = documented_user(version);
        let write = documented_block(|block| block.strip_prefix("write = ").is_some().then_some(block));
        let line = watching.lines().find(|line| line.starts_with("write = ")).expect("it may ask");
        Self::start_for(folder, version, hep, watching.replace(line, write.trim_end())).await
    }

    async fn start_for(folder: &Folder, version: Version, hep: SocketAddr, user: String) -> Self {
        let (ports, media) = (Ports::take(), Ports::take());
        let (address, manager) = (ports.address(0), ports.address(4));
        let (trunk, second_trunk) = (ports.address(2), ports.address(6));
        let (tree, run) = (tree(version), folder.join("asterisk"));
        for name in ["lib/keys", "spool", "db"] {
            fs::create_dir_all(run.join(name)).expect("the test's folder can be written");
        }
        let values = [
            ("@CONF@", run.join("conf").display().to_string()),
            ("@RUN@", run.display().to_string()),
            ("@TREE@", tree.display().to_string()),
            ("@SIP@", address.to_string()),
            ("@TRUNK@", trunk.to_string()),
            ("@SECOND_TRUNK@", second_trunk.to_string()),
            ("@AMI@", manager.port().to_string()),
            ("@HEP@", hep.to_string()),
            ("@HOOKSWITCH@", user),
            ("@RTP_FIRST@", media.port(0).to_string()),
            ("@RTP_LAST@", media.port(19).to_string()),
        ];
        write_configuration(folder, &values);
        let program = tree.join("asterisk");
        let (process, ami) = launch(&program, &run, manager).await;
        Self { address, trunk, second_trunk, manager, ami, program, run, process, _ports: ports, _media: media }
    }

    /// Stops it as systemd would: calls end, phones and trunk are told.
    pub fn stop(&mut self) {
        self.process.stop();
    }

    /// Ends it as a crash would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again where it was; it still knows the phones' registrations, and no call.
    pub async fn start_again(&mut self) {
        (self.process, self.ami) = launch(&self.program, &self.run, self.manager).await;
    }
}

/// Where `tests/asterisk/fetch.sh` has put it.
fn tree(version: Version) -> PathBuf {
    let name = match version {
        Version::Sixteen => "16",
        Version::TwentyTwo => "22",
    };
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is in the target folder");
    let tree = target.join("asterisk").join(name);
    assert!(tree.join("asterisk").exists(), "no Asterisk {name} in {}; .ci/tools fetches it", tree.display());
    tree
}

/// The manager user and its filters as docs/asterisk.md says to paste them, with the tests' secret.
fn documented_user(version: Version) -> String {
    let block = |begins: &str| documented_block(|block| block.find(begins).map(|at| &block[at..]));
    let filters = match version {
        Version::Sixteen => block("eventfilter = "),
        Version::TwentyTwo => block("eventfilter(action(include)"),
    };
    format!("{}{filters}", block("[hookswitch]\n")).replace("CHANGE-ME", "amisecret")
}

/// What is wanted of the first block of docs/asterisk.md that has it.
fn documented_block(wanted: impl Fn(&str) -> Option<&str>) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/asterisk.md");
    let page = fs::read_to_string(page).expect("the page is in the repository");
    let mut blocks = page.split("```ini\n").skip(1).filter_map(|rest| rest.split("```").next());
    blocks.find_map(wanted).expect("docs/asterisk.md has what the tests paste").to_owned()
}

fn write_configuration(folder: &Folder, values: &[(&str, String)]) {
    let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/asterisk/conf");
    for template in fs::read_dir(templates).expect("the templates are in the repository") {
        let path = template.expect("they can be listed").path();
        if path.extension().is_none_or(|end| end != "conf") {
            continue;
        }
        let mut text = fs::read_to_string(&path).expect("a template can be read");
        for (name, value) in values {
            text = text.replace(name, value);
        }
        let name = path.file_name().and_then(|name| name.to_str()).expect("its name is text");
        folder.write(&format!("asterisk/conf/{name}"), text);
    }
}

/// Starts it and waits until it serves.
async fn launch(program: &Path, run: &Path, manager: SocketAddr) -> (Process, Ami) {
    let mut asterisk = Command::new(program);
    asterisk.arg("-f").arg("-C").arg(run.join("conf/asterisk.conf"));
    let mut process = Process::start("asterisk", &mut asterisk, &run.join("console.txt"));
    let ami = until("Asterisk's manager interface is open", async || {
        process.assert_runs();
        Ami::log_in(manager, "tests", "testsecret").await
    })
    .await;
    ami.event("FullyBooted", &[]).await;
    (process, ami)
}
