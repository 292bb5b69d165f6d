//! A real Kamailio, run on `tests/kamailio/kamailio.cfg`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tokio::net::UdpSocket;

use super::folder::Folder;
use super::ports::Ports;
use super::process::Process;
use super::wait::until;

/// A running Kamailio: UDP and TCP on one port.
#[derive(Debug)]
pub struct Kamailio {
    /// Where it listens, on UDP and TCP.
    pub address: SocketAddr,
    /// Where it expects the trunk.
    pub trunk: SocketAddr,
    arguments: Vec<OsString>,
    log: PathBuf,
    process: Process,
    _ports: Ports,
}

impl Kamailio {
    /// Starts it; it relays registrations to the URI `replica` and copies calls to the URI `mirror`.
    pub async fn start(folder: &Folder, replica: &str, mirror: &str) -> Self {
        Self::start_with(folder, replica, mirror, &[]).await
    }

    /// The same with more of the configuration's switches set, as `NAME` or `NAME=value`.
    pub async fn start_with(folder: &Folder, replica: &str, mirror: &str, switches: &[&str]) -> Self {
        let ports = Ports::take();
        let (address, trunk) = (ports.address(0), ports.address(10));
        let run = folder.join("kamailio");
        std::fs::create_dir_all(&run).expect("the test's folder can be written");
        let config = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kamailio/kamailio.cfg");
        let mut arguments: Vec<OsString> = ["-DD", "-E", "-m", "32", "-M", "4"].map(Into::into).into();
        for (flag, path) in [("-f", &config), ("-w", &run), ("-Y", &run), ("-P", &run.join("pid"))] {
            arguments.extend([flag.into(), path.into()]);
        }
        let addresses = [
            format!("LISTEN_UDP=udp:{address}"),
            format!("LISTEN_TCP=tcp:{address}"),
            format!("TRUNK_URI=\"sip:{trunk}\""),
            format!("HOOKSWITCH_REPLICA=\"{replica}\""),
            format!("HOOKSWITCH_MIRROR=\"{mirror}\""),
            format!("PRESENCE_URI=\"sip:{address}\""),
        ];
        let publish = format!("PUBLISH_URI=\"sip:{address}\"");
        let elsewhere = switches.iter().any(|switch| switch.starts_with("PUBLISH_URI="));
        let publish = (!elsewhere).then_some(publish.as_str());
        for define in addresses.iter().map(String::as_str).chain(publish).chain(switches.iter().copied()) {
            arguments.extend(["-A".into(), define.into()]);
        }
        let log = folder.join("kamailio.log");
        let process = launch(&arguments, &log, address).await;
        Self { address, trunk, arguments, log, process, _ports: ports }
    }

    /// Stops it: it forgets phones, calls and subscriptions, and tells nobody.
    pub fn stop(&mut self) {
        self.process.stop();
    }

    /// Starts it again where it was.
    pub async fn start_again(&mut self) {
        self.process = launch(&self.arguments, &self.log, self.address).await;
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.output()
    }
}

async fn launch(arguments: &[OsString], log: &Path, address: SocketAddr) -> Process {
    let mut kamailio = Command::new("kamailio");
    kamailio.env("PATH", path()).args(arguments);
    let mut process = Process::start("kamailio", &mut kamailio, log);
    until("Kamailio answers OPTIONS", async || {
        process.assert_runs();
        answers_options(address).await.then_some(())
    })
    .await;
    process
}

async fn answers_options(address: SocketAddr) -> bool {
    let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port is free");
    let local = socket.local_addr().expect("it is bound");
    let options = format!(
        "OPTIONS sip:{address} SIP/2.0\r\nVia: SIP/2.0/UDP {local};branch=z9hG4bKready;rport\r\nMax-Forwards: 70\r\n\
         From: <sip:test@{local}>;tag=1\r\nTo: <sip:{address}>\r\nCall-ID: ready@{local}\r\nCSeq: 1 OPTIONS\r\n\
         Content-Length: 0\r\n\r\n"
    );
    if socket.send_to(options.as_bytes(), address).await.is_err() {
        return false;
    }
    let mut buffer = [0; 2048];
    let answer = tokio::time::timeout(Duration::from_millis(200), socket.recv(&mut buffer)).await;
    matches!(answer, Ok(Ok(length)) if buffer[..length].starts_with(b"SIP/2.0 200"))
}

/// The search path with the folders of daemons, which ordinary users may lack.
fn path() -> String {
    format!("{}:/usr/sbin:/usr/local/sbin", std::env::var("PATH").unwrap_or_default())
}
