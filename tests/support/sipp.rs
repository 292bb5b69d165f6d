//! SIPp: a carrier's trunk, and a SIP client that sends exactly what a scenario file says.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::folder::Folder;
use super::ports::Ports;
use super::process::Process;
use super::wait::until;

/// A running scenario.
#[derive(Debug)]
pub struct Sipp {
    name: String,
    process: Process,
    _ports: Ports,
}

/// What a scenario is run with.
#[derive(Clone, Debug)]
pub struct Scenario<'a> {
    /// A file in `tests/sipp`, without `.xml`.
    pub file: &'a str,
    /// Where it sends to, over TLS the entrance of a [`Tunnel`](super::tunnel::Tunnel); none = it waits for a call.
    pub target: Option<SocketAddr>,
    /// The port it sends from; none = any.
    pub source: Option<SocketAddr>,
    /// `udp`, `tcp` or `tls`.
    pub transport: &'a str,
    /// The number it calls or registers.
    pub service: &'a str,
    /// How long its pauses last.
    pub pause: Duration,
    /// More `-key` values of the scenario.
    pub keys: &'a [(&'a str, &'a str)],
}

impl Scenario<'_> {
    /// `file` over UDP, with nothing else set.
    pub fn new(file: &str) -> Scenario<'_> {
        Scenario {
            file,
            target: None,
            source: None,
            transport: "udp",
            service: "service",
            pause: Duration::from_secs(1),
            keys: &[],
        }
    }

    /// Starts it.
    pub fn start(&self, folder: &Folder) -> Sipp {
        let ports = Ports::take();
        let source = self.source.unwrap_or_else(|| match self.target {
            Some(target) => SocketAddr::new(target.ip(), ports.port(0)),
            None => ports.address(0),
        });
        let mode = if self.transport == "udp" { "u1" } else { "t1" };
        let mut file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sipp").join(format!("{}.xml", self.file));
        if self.transport == "tls" {
            file = over_tls(&file, folder);
        }
        let mut sipp = Command::new("sipp");
        sipp.current_dir(folder.path()).arg("-sf").arg(file).args(["-t", mode, "-m", "1", "-nostdin"]);
        sipp.args(["-i", &source.ip().to_string(), "-p", &source.port().to_string()]);
        sipp.args(["-mi", "127.0.0.1", "-mp", &ports.port(4).to_string(), "-cp", &ports.port(2).to_string()]);
        // The Call-ID of one run must not look like that of another.
        sipp.args(["-cid_str", &format!("%u-{}@%s", uuid::Uuid::now_v7())]);
        sipp.args(["-s", self.service, "-d", &self.pause.as_millis().to_string()]);
        sipp.args(["-timeout", "40s", "-timeout_error", "-trace_err", "-error_file"]);
        sipp.arg(folder.join(format!("sipp-{}-{}.log", self.file, source.port())));
        for (key, value) in self.keys {
            sipp.args(["-key", key, value]);
        }
        if let Some(target) = self.target {
            sipp.arg(target.to_string());
        }
        let screen = folder.join(format!("sipp-{}-{}.screen", self.file, source.port()));
        Sipp { name: self.file.to_owned(), process: Process::start("sipp", &mut sipp, &screen), _ports: ports }
    }

    /// Runs it to its end; panics when a message was not what the scenario expects.
    pub async fn run(&self, folder: &Folder) {
        self.start(folder).passes().await;
    }
}

/// A copy of a scenario that says TLS. SIPp would write TCP, since that is what it speaks to the tunnel.
fn over_tls(file: &Path, folder: &Folder) -> PathBuf {
    let text = fs::read_to_string(file).expect("the scenario is there");
    let text = text.replace("SIP/2.0/[transport]", "SIP/2.0/TLS").replace("transport=[transport]", "transport=tls");
    let name = file.file_name().and_then(|name| name.to_str()).expect("a name of ours");
    folder.write(&format!("tls-{name}"), text)
}

impl Sipp {
    /// Waits for its end; panics when a message was not what the scenario expects.
    pub async fn passes(mut self) {
        let status = until(&format!("SIPp's {} ends", self.name), async || self.process.ended()).await;
        assert!(status.success(), "SIPp's {} failed ({status}):\n{}", self.name, self.process.output());
    }
}
