//! A daemon whose sockets outlive it.

use std::net::SocketAddr;
use std::process::Command;

use crate::support::daemon::hookswitch;
use crate::support::folder::Folder;
use crate::support::ports::Ports;
use crate::support::process::Process;
use crate::support::wait::until;

/// A daemon on sockets that `systemd-socket-activate` has opened and that a loop of a shell keeps.
pub struct Kept {
    /// The registrar, on UDP and TCP.
    pub registrar: SocketAddr,
    /// The API.
    pub http: SocketAddr,
    /// Metrics and health.
    pub ops: SocketAddr,
    keeper: Process,
    _ports: Ports,
}

impl Kept {
    /// Opens the sockets; the daemon is started when the first datagram comes, as with a socket unit.
    pub fn open(folder: &Folder) -> Self {
        let ports = Ports::take();
        let (registrar, http, ops) = (ports.address(0), ports.address(1), ports.address(2));
        let config = folder.write("hookswitch.toml", configuration(folder, registrar, http, ops));
        let keeper = folder.write("keeper.sh", KEEPER);
        let (udp, tcp) = (registrar.to_string(), registrar.to_string());
        let mut activate = Command::new("systemd-socket-activate");
        // One call a kind: each passes on what it was handed itself.
        activate.args(["--datagram", "--listen", &udp, "systemd-socket-activate", "--listen", &tcp]);
        activate.args(["--listen", &http.to_string(), "--listen", &ops.to_string(), "bash"]).arg(keeper);
        let daemon = hookswitch(&config);
        activate.arg(daemon.get_program()).args(daemon.get_args());
        let keeper = Process::start("systemd-socket-activate", &mut activate, &folder.join("keeper.log"));
        Self { registrar, http, ops, keeper, _ports: ports }
    }

    /// The process ids of all daemons so far.
    pub fn daemons(&self) -> Vec<u32> {
        let output = self.output();
        output.lines().filter_map(|line| line.strip_prefix("started ")?.trim().parse().ok()).collect()
    }

    /// Has the present daemon end as systemd does, and waits until the next one was started.
    pub async fn restart(&mut self) {
        let daemons = self.daemons();
        let present = daemons.last().expect("one was started");
        let sent = Command::new("kill").args(["-s", "TERM", &present.to_string()]).status();
        assert!(sent.expect("kill is installed").success());
        until("the next daemon is started", async || {
            self.keeper.assert_runs();
            (self.daemons().len() > daemons.len()).then_some(())
        })
        .await;
    }

    /// Waits until the sockets are open.
    pub async fn opened(&mut self) {
        until("the sockets are open", async || {
            self.keeper.assert_runs();
            self.output().contains("Listening on").then_some(())
        })
        .await;
    }

    /// What has been printed and logged.
    pub fn output(&self) -> String {
        self.keeper.output()
    }
}

/// The configuration of a daemon with nothing but a registrar.
pub fn configuration(folder: &Folder, registrar: SocketAddr, http: SocketAddr, ops: SocketAddr) -> String {
    format!(
        "data_dir = \"{}\"\nhttp.listen = [\"{http}\"]\nops.listen = [\"{ops}\"]\nlimits.devices_per_second_max = 100000\n\
         [listeners.registrar]\nbind = [\"udp:{registrar}\", \"tcp:{registrar}\"]\n",
        folder.join("data").display()
    )
}

/// What systemd does with a socket unit whose service is restarted.
const KEEPER: &str = r#"
stop=
trap 'stop=1; kill -TERM "$daemon"' TERM
while [ -z "$stop" ]; do
    (LISTEN_PID=$BASHPID exec "$@") &
    daemon=$!
    echo "started $daemon"
    wait "$daemon"
    echo "ended $? $daemon"
done
wait "$daemon"
"#;
