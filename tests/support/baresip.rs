//! Real phones: baresip without a screen or sound card, driven over its control socket (JSON in netstrings).

use std::net::SocketAddr;
use std::process::Command;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::JoinHandle;

use super::folder::Folder;
use super::ports::Ports;
use super::process::Process;
use super::wait::until;

/// One phone with one account. Calls ring until [`Phone::answer`].
#[derive(Debug)]
pub struct Phone {
    /// Its extension.
    pub extension: String,
    control: OwnedWriteHalf,
    events: Arc<Mutex<Vec<Value>>>,
    reader: JoinHandle<()>,
    process: Process,
    _ports: Ports,
}

/// How a phone registers.
#[derive(Clone, Copy, Debug)]
pub struct Account<'a> {
    /// Its extension; the password is `pw` and the extension.
    pub extension: &'a str,
    /// The domain of its address-of-record.
    pub domain: &'a str,
    /// Where it sends everything.
    pub proxy: SocketAddr,
    /// `udp` or `tcp`.
    pub transport: &'a str,
    /// Seconds it asks for.
    pub expires_s: u32,
}

impl Phone {
    /// Starts a phone and waits until its registration is accepted.
    pub async fn start(folder: &Folder, account: Account<'_>) -> Self {
        let Account { extension, domain, proxy, transport, expires_s } = account;
        let settings = format!(
            "\"Phone {extension}\" <sip:{extension}@{domain};transport={transport}>\
             ;outbound=\"sip:{proxy};transport={transport}\";auth_user={extension};auth_pass=pw{extension}\
             ;regint={expires_s};answermode=manual;audio_codecs=PCMU/8000/1\n"
        );
        Self::start_with(folder, extension, &settings).await
    }

    /// The same with a line of baresip's `accounts` file.
    pub async fn start_with(folder: &Folder, extension: &str, settings: &str) -> Self {
        let name = format!("phone-{extension}");
        let ports = Ports::take();
        folder.write(&format!("{name}/accounts"), settings);
        folder.write(&format!("{name}/contacts"), "");
        folder.write(&format!("{name}/config"), config(extension, &ports));
        let mut baresip = Command::new("baresip");
        baresip.arg("-f").arg(folder.join(&name));
        let mut process = Process::start(&name, &mut baresip, &folder.join(format!("{name}.log")));
        let control = until("baresip opens its control socket", async || {
            process.assert_runs();
            TcpStream::connect(ports.address(CONTROL)).await.ok()
        })
        .await;
        let (read, write) = control.into_split();
        let events = Arc::new(Mutex::new(Vec::new()));
        let reader = tokio::spawn(keep_events(read, Arc::clone(&events)));
        let phone = Self { extension: extension.to_owned(), control: write, events, reader, process, _ports: ports };
        until("the phone's registration is accepted", async || {
            phone.process.output().contains(" 200 OK ").then_some(())
        })
        .await;
        phone
    }

    /// Waits until it rings.
    pub async fn rings(&self) {
        self.event("CALL_INCOMING").await;
    }

    /// Waits until it talks.
    pub async fn talks(&self) {
        self.event("CALL_ESTABLISHED").await;
    }

    /// Waits until its call is over.
    pub async fn is_idle_again(&self) {
        self.event("CALL_CLOSED").await;
    }

    /// Whether it has rung and nobody waited for it yet.
    pub fn has_rung(&self) -> bool {
        self.events.lock().expect("nobody panics with it").iter().any(|event| event["type"] == "CALL_INCOMING")
    }

    /// Picks up.
    pub async fn answer(&mut self) {
        self.command("accept", "").await;
        self.talks().await;
    }

    /// Calls a number.
    pub async fn dial(&mut self, number: &str) {
        self.command("dial", number).await;
    }

    /// Hangs up or, while it rings, rejects (486).
    pub async fn hang_up(&mut self) {
        self.command("hangup", "").await;
        self.is_idle_again().await;
    }

    /// Rejects the call that rings (486).
    pub async fn reject(&mut self) {
        self.hang_up().await;
    }

    /// Hangs up without waiting until that is done.
    pub async fn hangs_up(&mut self) {
        self.command("hangup", "").await;
    }

    /// Puts its call on hold.
    pub async fn hold(&mut self) {
        self.command("hold", "").await;
    }

    /// Goes on with the call it holds.
    pub async fn resume(&mut self) {
        self.command("resume", "").await;
    }

    /// Sends its call to a number or URI (REFER).
    pub async fn transfer(&mut self, to: &str) {
        self.command("transfer", to).await;
    }

    /// Forgets what it has reported so far.
    pub fn forget(&self) {
        self.events.lock().expect("nobody panics with it").clear();
    }

    /// Switches it off: it unregisters.
    pub fn switch_off(&mut self) {
        self.process.stop();
    }

    /// Pulls its plug: it says nothing any more.
    pub fn unplug(&mut self) {
        self.process.kill();
    }

    async fn event(&self, kind: &str) {
        until(&format!("phone {} reports {kind}", self.extension), async || {
            let mut events = self.events.lock().expect("nobody panics with it");
            let found = events.iter().position(|event| event["type"] == kind)?;
            Some(events.remove(found))
        })
        .await;
    }

    async fn command(&mut self, command: &str, parameters: &str) {
        let text = json!({ "command": command, "params": parameters, "token": "test" }).to_string();
        let netstring = format!("{}:{text},", text.len());
        self.control.write_all(netstring.as_bytes()).await.expect("baresip's control socket is open");
    }
}

impl Drop for Phone {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn keep_events(mut socket: OwnedReadHalf, events: Arc<Mutex<Vec<Value>>>) {
    let mut buffer = Vec::new();
    while socket.read_buf(&mut buffer).await.is_ok_and(|count| count > 0) {
        while let Some((value, used)) = netstring(&buffer) {
            events.lock().expect("nobody panics with it").push(value);
            buffer.drain(..used);
        }
    }
}

/// The first whole netstring in `buffer`, and how many bytes it took.
fn netstring(buffer: &[u8]) -> Option<(Value, usize)> {
    let colon = buffer.iter().position(|byte| *byte == b':')?;
    let length: usize = std::str::from_utf8(&buffer[..colon]).ok()?.parse().ok()?;
    let end = colon + 1 + length;
    // The comma after it belongs to it as well.
    if buffer.len() <= end {
        return None;
    }
    Some((serde_json::from_slice(&buffer[colon + 1..end]).unwrap_or_default(), end + 1))
}

/// Modules and ports; sound goes nowhere.
fn config(extension: &str, ports: &Ports) -> String {
    format!(
        "poll_method epoll\n\
         sip_listen {sip}\n\
         net_interface 127.0.0.1\n\
         call_local_timeout 120\n\
         call_max_calls 4\n\
         audio_player aubridge,p{extension}\n\
         audio_source aubridge,p{extension}\n\
         audio_alert aubridge,a{extension}\n\
         audio_level no\n\
         ausrc_srate 8000\n\
         auplay_srate 8000\n\
         ausrc_channels 1\n\
         auplay_channels 1\n\
         rtp_ports {rtp_first}-{rtp_last}\n\
         rtcp_mux no\n\
         module_path /usr/lib/baresip/modules\n\
         module g711.so\n\
         module aubridge.so\n\
         module_app account.so\n\
         module_app contact.so\n\
         module_app menu.so\n\
         module_app ctrl_tcp.so\n\
         ctrl_tcp_listen {control}\n",
        sip = ports.address(SIP),
        control = ports.address(CONTROL),
        rtp_first = ports.port(RTP_FIRST),
        rtp_last = ports.port(RTP_LAST),
    )
}

/// baresip takes the port after this one for TLS.
const SIP: u16 = 0;
const CONTROL: u16 = 2;
const RTP_FIRST: u16 = 4;
const RTP_LAST: u16 = 18;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_netstring_is_read_once_it_is_whole() {
        assert_eq!(netstring(b"2:{}"), None);
        assert_eq!(netstring(b"2:{},7:"), Some((json!({}), 5)));
    }
}
