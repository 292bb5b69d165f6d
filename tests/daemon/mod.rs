//! The real binary on free loopback ports, with a data folder of its own, and SIP to talk to it.

#![allow(dead_code, reason = "each test binary uses its part")]

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// A running daemon; killed when dropped.
pub struct Daemon {
    child: Child,
    /// Where each listener listens: name, protocol, address.
    pub sip: Vec<(String, String, SocketAddr)>,
    /// Base URL of the API.
    pub http: String,
    /// Base URL of the operator's pages.
    pub ops: String,
    /// Its data folder.
    pub folder: PathBuf,
    own: Option<tempfile::TempDir>,
}

/// A registrar, a replica and a mirror, on UDP and TCP of both families where it matters.
pub const ALL_MODES: &str = r#"
[listeners.registrar]
bind = ["udp:127.0.0.1:0", "tcp:127.0.0.1:0", "udp:[::1]:0", "tcp:[::1]:0"]
[listeners.replica]
bind = ["udp:127.0.0.1:0", "tcp:127.0.0.1:0"]
[listeners.mirror]
bind = ["udp:127.0.0.1:0", "tcp:127.0.0.1:0"]
"#;

impl Daemon {
    /// Starts one with this configuration and an empty data folder.
    pub fn start(configuration: &str) -> Self {
        let own = tempfile::tempdir().unwrap();
        let mut daemon = Self::start_in(own.path(), configuration);
        daemon.own = Some(own);
        daemon
    }

    /// Starts one on a data folder that may have been used before.
    pub fn start_in(folder: &Path, configuration: &str) -> Self {
        let mut child = command(folder, configuration).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let (mut sip, mut http, mut ops, mut ready) = (Vec::new(), String::new(), String::new(), false);
        for line in lines.by_ref() {
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                ["SIP", _, protocol, address, name] => {
                    let name = name.trim_start_matches("[listeners.").trim_end_matches(']');
                    sip.push((name.to_owned(), (*protocol).to_owned(), address.parse().unwrap()));
                }
                ["HTTP", "API", url] => (*url).clone_into(&mut http),
                ["operations", url, ..] => url.trim_end_matches("/metrics,").clone_into(&mut ops),
                ["Ctrl-C", ..] => {
                    ready = true;
                    break;
                }
                _ => {}
            }
        }
        if !ready {
            let mut said = String::new();
            child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
            panic!("the daemon did not start: {said}");
        }
        // A full pipe would stop it.
        std::thread::spawn(move || lines.for_each(drop));
        let mut log = child.stderr.take().unwrap();
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        Self { child, sip, http, ops, folder: folder.to_path_buf(), own: None }
    }

    /// Where the first listener of this name listens with this protocol and family.
    pub fn address(&self, listener: &str, protocol: &str, v6: bool) -> SocketAddr {
        let found = self
            .sip
            .iter()
            .find(|(name, speaks, address)| name == listener && speaks == protocol && address.is_ipv6() == v6);
        found.unwrap_or_else(|| panic!("no {listener} on {protocol}: {:?}", self.sip)).2
    }

    /// The first admin token.
    pub fn token(&self) -> String {
        std::fs::read_to_string(self.folder.join("admin-token")).unwrap().trim().to_owned()
    }

    /// Asks the API as the first admin.
    pub async fn call(&self, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let mut request = reqwest::Client::new()
            .request(method.parse().unwrap(), format!("{}{path}", self.http))
            .bearer_auth(self.token());
        if let Some(body) = body {
            let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
            request = request.header("content-type", kind).body(body.to_string());
        }
        let response = request.send().await.unwrap();
        let status = response.status().as_u16();
        (status, serde_json::from_str(&response.text().await.unwrap()).unwrap_or_default())
    }

    /// The device with this extension, if there is one.
    pub async fn device(&self, extension: &str) -> Option<Value> {
        let (status, page) = self.call("GET", &format!("/v1/devices?q={extension}"), None).await;
        assert_eq!(status, 200, "{page}");
        page["items"].as_array().unwrap().iter().find(|device| device["extension"] == extension).cloned()
    }

    /// The value of one line of the metrics page; 0 when it is not there.
    pub async fn metric(&self, line: &str) -> f64 {
        let page = reqwest::get(format!("{}/metrics", self.ops)).await.unwrap().text().await.unwrap();
        let found = page.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(' '));
        found.map_or(0.0, |value| value.parse().unwrap())
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits for it to end.
    pub fn wait(&mut self) -> std::process::ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The binary, its configuration written into `folder`.
pub fn command(folder: &Path, configuration: &str) -> Command {
    let file = folder.join("hookswitch.toml");
    let head =
        format!("data_dir = \"{}\"\nhttp.listen = \"127.0.0.1:0\"\nops.listen = \"127.0.0.1:0\"\n", folder.display());
    std::fs::write(&file, head + configuration).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookswitch"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("HOOKSWITCH_")) {
        command.env_remove(name);
    }
    command.arg("--config").arg(file).stdin(Stdio::null());
    command
}

/// A UDP phone for tests.
pub struct Phone {
    pub socket: UdpSocket,
    pub local: SocketAddr,
}

impl Phone {
    /// On a free port of the same family as `peer`.
    pub async fn near(peer: SocketAddr) -> Self {
        let any = if peer.is_ipv6() { "[::1]:0" } else { "127.0.0.1:0" };
        let socket = UdpSocket::bind(any).await.unwrap();
        let local = socket.local_addr().unwrap();
        Self { socket, local }
    }

    /// Sends `message` and returns what comes back first.
    pub async fn ask(&self, peer: SocketAddr, message: &str) -> String {
        self.tell(peer, message).await;
        self.hear().await.unwrap_or_else(|| panic!("no answer to\n{message}"))
    }

    /// Sends `message`.
    pub async fn tell(&self, peer: SocketAddr, message: &str) {
        self.socket.send_to(message.as_bytes(), peer).await.unwrap();
    }

    /// The next message; none when there is silence.
    pub async fn hear(&self) -> Option<String> {
        self.hear_for(Duration::from_secs(3)).await
    }

    /// The next message within `wait`.
    pub async fn hear_for(&self, wait: Duration) -> Option<String> {
        let mut buffer = vec![0; 65_535];
        let (length, _) = timeout(wait, self.socket.recv_from(&mut buffer)).await.ok()?.unwrap();
        Some(String::from_utf8(buffer[..length].to_vec()).unwrap())
    }

    /// A REGISTER of `user` from here.
    pub fn register(&self, user: &str, cseq: u32, expires_s: u32) -> String {
        let contact = format!("Contact: <sip:{user}@{}>\r\nExpires: {expires_s}\r\n", self.local);
        self.request("REGISTER", user, cseq, &contact)
    }

    /// A request to `user` with everything it must have. Its Call-ID and branch depend on user and number only.
    pub fn request(&self, method: &str, user: &str, cseq: u32, headers: &str) -> String {
        let branch = if method == "CANCEL" { "INVITE" } else { method };
        request("UDP", self.local, method, user, cseq, &format!("z9hG4bK{branch}{user}{cseq}"), headers)
    }
}

/// A request with everything it must have.
pub fn request(
    transport: &str,
    local: SocketAddr,
    method: &str,
    user: &str,
    cseq: u32,
    branch: &str,
    headers: &str,
) -> String {
    format!(
        "{method} sip:{user}@pbx.example SIP/2.0\r\nVia: SIP/2.0/{transport} {local};rport;branch={branch}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:{user}@pbx.example>;tag=f{user}\r\nTo: <sip:{user}@pbx.example>\r\n\
         Call-ID: {user}@phone.example\r\nCSeq: {cseq} {method}\r\n{headers}Content-Length: 0\r\n\r\n"
    )
}

/// The status line of a response.
pub fn status(response: &str) -> &str {
    response.lines().next().unwrap_or_default()
}
