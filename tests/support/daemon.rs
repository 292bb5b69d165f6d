//! The real hookswitch binary, with every listener on a free port.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::api::Api;
use super::folder::Folder;
use super::ports::Ports;
use super::process::Process;
use super::wait::until;

/// A running daemon. [`Daemon::restart`] keeps its data.
#[derive(Debug)]
pub struct Daemon {
    /// The registrar, on UDP and TCP.
    pub registrar: SocketAddr,
    /// The registrar on IPv6, on UDP and TCP.
    pub registrar6: SocketAddr,
    /// The replica, on UDP and TCP.
    pub replica: SocketAddr,
    /// The mirror, on UDP.
    pub mirror: SocketAddr,
    /// The API.
    pub http: SocketAddr,
    /// Metrics and health.
    pub ops: SocketAddr,
    /// Its configuration file.
    pub config: PathBuf,
    /// Its data folder.
    pub data: PathBuf,
    log: PathBuf,
    environment: Vec<(&'static str, String)>,
    /// The program and arguments it is started by, if it is not started directly.
    through: Vec<String>,
    process: Process,
    _ports: Ports,
}

impl Daemon {
    /// Starts it with a database file of its own.
    pub async fn start(folder: &Folder) -> Self {
        Self::start_with(folder, "").await
    }

    /// Starts it with more configuration, which may set `[database]`.
    pub async fn start_with(folder: &Folder, more: &str) -> Self {
        Self::start_in(folder, more, Vec::new()).await
    }

    /// The same started through another program, in whose view of the file system the data folder is; `data` is that
    /// folder as we see it.
    pub async fn start_through(folder: &Folder, more: &str, through: Vec<String>, data: PathBuf) -> Self {
        let mut daemon = Self::launch(folder, more, Vec::new(), through);
        daemon.data = data;
        daemon.serves().await;
        daemon
    }

    /// The same with variables set in its environment.
    pub async fn start_in(folder: &Folder, more: &str, environment: Vec<(&'static str, String)>) -> Self {
        let mut daemon = Self::launch(folder, more, environment, Vec::new());
        daemon.serves().await;
        daemon
    }

    fn launch(folder: &Folder, more: &str, environment: Vec<(&'static str, String)>, through: Vec<String>) -> Self {
        let ports = Ports::take();
        let registrar6 = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, ports.port(0)));
        let (registrar, replica, mirror) = (ports.address(0), ports.address(1), ports.address(2));
        let (http, ops) = (ports.address(3), ports.address(4));
        let data = folder.join("data");
        let config = folder.write(
            "hookswitch.toml",
            format!(
                "data_dir = \"{}\"\n\
                 http.listen = [\"{http}\"]\n\
                 ops.listen = [\"{ops}\"]\n\
                 log.level = \"info,hookswitch=debug\"\n\
                 [listeners.registrar]\n\
                 bind = [\"udp:{registrar}\", \"tcp:{registrar}\", \"udp:{registrar6}\", \"tcp:{registrar6}\"]\n\
                 [listeners.replica]\n\
                 bind = [\"udp:{replica}\", \"tcp:{replica}\"]\n\
                 [listeners.mirror]\n\
                 bind = [\"udp:{mirror}\"]\n\
                 {more}",
                data.display()
            ),
        );
        let log = folder.join("hookswitch.log");
        let process = launch(&config, &environment, &through, &log);
        Self {
            registrar,
            registrar6,
            replica,
            mirror,
            http,
            ops,
            config,
            data,
            log,
            environment,
            through,
            process,
            _ports: ports,
        }
    }

    /// The API, as the first admin.
    pub fn api(&self) -> Api {
        Api::new(self.http, &self.token())
    }

    /// The first admin token.
    pub fn token(&self) -> String {
        let token = std::fs::read_to_string(self.data.join("admin-token")).expect("the first token is filed");
        token.trim().to_owned()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// Where the listener of this name listens, as the daemon says; for one that was given port 0.
    pub fn listening(&self, name: &str, protocol: &str) -> SocketAddr {
        let output = self.output();
        let found = output.lines().find_map(|line| match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["SIP", _, speaks, address, key] if *speaks == protocol && *key == format!("[listeners.{name}]") => {
                address.parse().ok()
            }
            _ => None,
        });
        found.unwrap_or_else(|| panic!("no {name} on {protocol}:\n{output}"))
    }

    /// Stops it as systemd would.
    pub fn stop(&mut self) {
        let status = self.process.stop();
        assert!(status.success(), "hookswitch ended with {status}:\n{}", self.process.output());
    }

    /// Has it read again what can be read again (SIGHUP).
    pub fn reload(&self) {
        self.process.signal("HUP");
    }

    /// Has it stand still (SIGSTOP); what is sent to it waits in the system.
    pub fn freeze(&self) {
        self.process.signal("STOP");
    }

    /// Undoes [`Daemon::freeze`].
    pub fn thaw(&self) {
        self.process.signal("CONT");
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the data it had.
    pub async fn start_again(&mut self) {
        self.launch_again();
        self.serves().await;
    }

    /// [`Self::start_again`] without waiting for it to serve.
    pub fn launch_again(&mut self) {
        self.process = launch(&self.config, &self.environment, &self.through, &self.log);
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.process.ended()
    }

    /// The memory it holds now, in KiB.
    pub fn resident_kib(&self) -> u64 {
        self.process.resident_kib()
    }

    /// Stops it and starts it again.
    pub async fn restart(&mut self) {
        self.stop();
        self.start_again().await;
    }

    /// What it has printed and logged.
    pub fn output(&self) -> String {
        self.process.output()
    }

    /// Its metrics page.
    pub async fn metrics(&self) -> String {
        let answer =
            reqwest::get(format!("http://{}/metrics", self.ops)).await.expect("the operator's pages are there");
        answer.text().await.expect("metrics are text")
    }

    /// The sum of all series of a metric whose labels hold `labels`.
    pub async fn metric(&self, name: &str, labels: &str) -> f64 {
        let page = self.metrics().await;
        let series = page.lines().filter_map(|line| {
            let rest = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']))?;
            rest.contains(labels).then(|| rest.rsplit(' ').next()?.parse::<f64>().ok()).flatten()
        });
        series.sum()
    }

    /// Waits until it serves.
    pub async fn serves(&mut self) {
        let (process, ops) = (&mut self.process, self.ops);
        until("hookswitch serves", async || {
            process.assert_runs();
            let answer = reqwest::get(format!("http://{ops}/livez")).await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
        // The address may be another's: ours has not ended a moment later.
        tokio::time::sleep(Duration::from_millis(20)).await;
        self.process.assert_runs();
    }
}

/// The binary with this configuration file.
pub fn hookswitch(config: &Path) -> Command {
    let mut hookswitch = Command::new(env!("CARGO_BIN_EXE_hookswitch"));
    // The variables of whoever runs the tests are not what is tested.
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HOOKSWITCH_")) {
        hookswitch.env_remove(name);
    }
    hookswitch.arg("--config").arg(config);
    hookswitch
}

fn launch(config: &Path, environment: &[(&str, String)], through: &[String], log: &Path) -> Process {
    let mut hookswitch = hookswitch(config);
    hookswitch.envs(environment.iter().cloned());
    let Some((program, words)) = through.split_first() else {
        return Process::start("hookswitch", &mut hookswitch, log);
    };
    let mut behind = Command::new(program);
    behind.args(words).arg(hookswitch.get_program()).args(hookswitch.get_args());
    for (name, value) in hookswitch.get_envs() {
        match value {
            Some(value) => behind.env(name, value),
            None => behind.env_remove(name),
        };
    }
    Process::start("hookswitch", &mut behind, log)
}
