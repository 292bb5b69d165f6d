//! A SIP phone's end of the line: one UDP socket and the messages it writes. It sends no audio.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::net::UdpSocket;

use hookswitch::model::Transport;
use hookswitch::sip::client::{Ids, Phone};
use hookswitch::sip::{Contact, Message, Method, scan};

/// A phone with a socket.
pub struct Line {
    /// Who it is.
    pub phone: Phone,
    socket: UdpSocket,
    call_id: String,
    tag: String,
    registers: u32,
}

/// Identifiers of one request, owned.
#[derive(Clone, Debug)]
pub struct OwnIds {
    /// Call-ID.
    pub call_id: String,
    /// The phone's own tag.
    pub tag: String,
    /// Via branch.
    pub branch: String,
    /// `CSeq` number.
    pub cseq: u32,
}

impl Line {
    /// Takes a free loopback port for `user` at `domain`.
    pub async fn open(user: &str, domain: &str, display: Option<&str>) -> anyhow::Result<Self> {
        Self::open_at(user, domain, display, IpAddr::V4(Ipv4Addr::LOCALHOST)).await
    }

    /// Takes a free port of the address `local`.
    pub async fn open_at(user: &str, domain: &str, display: Option<&str>, local: IpAddr) -> anyhow::Result<Self> {
        let socket = UdpSocket::bind(SocketAddr::new(local, 0)).await.context("no free UDP port")?;
        let phone = Phone {
            user: user.to_owned(),
            domain: domain.to_owned(),
            display: display.map(str::to_owned),
            local: socket.local_addr().context("the socket has no address")?,
            transport: Transport::Udp,
            user_agent: concat!("hookswitch-phone/", env!("CARGO_PKG_VERSION")).to_owned(),
        };
        Ok(Self { phone, socket, call_id: random()?, tag: random()?, registers: 0 })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.phone.local
    }

    /// Sends one message.
    pub async fn send(&self, bytes: &[u8], to: SocketAddr) -> anyhow::Result<()> {
        self.socket.send_to(bytes, to).await.with_context(|| format!("can't send to {to}"))?;
        Ok(())
    }

    /// Talks to `to` only from now on. Then the system says, with the next message, that nobody listens there.
    pub async fn connect(&self, to: SocketAddr) -> anyhow::Result<()> {
        self.socket.connect(to).await.with_context(|| format!("no way to {to}"))
    }

    /// Sends one message to where it is connected to.
    pub async fn send_on(&self, bytes: &[u8]) -> std::io::Result<()> {
        self.socket.send(bytes).await.map(drop)
    }

    /// Waits for one message. ICMP errors of earlier ones are no news.
    pub async fn receive(&self) -> (Vec<u8>, SocketAddr) {
        let mut buffer = vec![0; 65_535];
        loop {
            if let Ok((length, source)) = self.socket.recv_from(&mut buffer).await {
                buffer.truncate(length);
                return (buffer, source);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Registers for `expires_s` seconds (0 removes) and answers with what was granted.
    pub async fn register(&mut self, registrar: SocketAddr, expires_s: u32) -> anyhow::Result<u32> {
        self.registers += 1;
        let branch = branch()?;
        let ids = Ids { call_id: &self.call_id, tag: &self.tag, branch: &branch, cseq: self.registers };
        let contact = self.phone.contact();
        let request = self.phone.register(&ids, &[&contact], Some(expires_s));
        let answer = self.exchange(&request, registrar, self.registers).await?;
        let message = scan(&answer).context("the registrar's answer is no SIP")?;
        match message.status() {
            Some(200..=299) => Ok(granted(&message, self.phone.local)),
            status => bail!(
                "the registrar at {registrar} answered {} {}",
                status.unwrap_or_default(),
                message.reason_phrase().unwrap_or_default()
            ),
        }
    }

    /// Sends `request` until its final answer comes, as RFC 3261 §17.1.2.2 says for UDP. Other requests that arrive
    /// meanwhile are left to their senders' retransmissions.
    async fn exchange(&self, request: &[u8], to: SocketAddr, cseq: u32) -> anyhow::Result<Vec<u8>> {
        let mut wait = T1;
        for _ in 0..SENDS_MAX {
            self.send(request, to).await?;
            let answer = tokio::time::timeout(wait, async {
                loop {
                    let (bytes, _) = self.receive().await;
                    let ours = scan(&bytes).is_ok_and(|message| {
                        message.status().is_some_and(|status| status >= 200)
                            && message.cseq().is_ok_and(|answered| answered.number == cseq)
                            && message.call_id() == Some(&self.call_id)
                    });
                    if ours {
                        return bytes;
                    }
                }
            });
            if let Ok(bytes) = answer.await {
                return Ok(bytes);
            }
            wait = (wait * 2).min(T2);
        }
        bail!("no answer from {to}; is `hookswitch` running, and does a registrar listen there?")
    }
}

impl OwnIds {
    /// A new dialog's.
    pub fn new() -> anyhow::Result<Self> {
        Ok(Self { call_id: random()?, tag: random()?, branch: branch()?, cseq: 1 })
    }

    /// As the client's builders take them.
    pub fn borrowed(&self) -> Ids<'_> {
        Ids { call_id: &self.call_id, tag: &self.tag, branch: &self.branch, cseq: self.cseq }
    }
}

/// What a siptrace mirror makes of a message: a copy that says where the original came from and went.
pub fn copy(original: &[u8], source: SocketAddr, destination: SocketAddr, from_pbx: bool) -> Vec<u8> {
    let line_end = original.windows(2).position(|pair| pair == b"\r\n").map_or(original.len(), |at| at + 2);
    let (start, rest) = original.split_at(line_end);
    let direction = if from_pbx { "out" } else { "in" };
    let mut copy = start.to_vec();
    copy.extend_from_slice(
        format!(
            "X-Siptrace-Fromip: udp:{source}\r\nX-Siptrace-Toip: udp:{destination}\r\nX-Siptrace-Dir: {direction}\r\n"
        )
        .as_bytes(),
    );
    copy.extend_from_slice(rest);
    copy
}

/// The method and, for a response, the status of a message.
pub fn kind<'a>(message: &Message<'a>) -> (Option<Method<'a>>, Option<u16>) {
    let method = message.method().or_else(|| message.cseq().ok().map(|cseq| cseq.method));
    (method, message.status())
}

/// A Via branch (RFC 3261 §8.1.1.7).
pub fn branch() -> anyhow::Result<String> {
    Ok(format!("z9hG4bK{}", random()?))
}

/// 64 random bits in hexadecimal.
pub fn random() -> anyhow::Result<String> {
    let mut bytes = [0_u8; 8];
    getrandom::fill(&mut bytes).context("the system gives no random bytes")?;
    Ok(bytes.iter().fold(String::with_capacity(16), |mut text, byte| {
        // Writing to a String can't fail.
        let _ = write!(text, "{byte:02x}");
        text
    }))
}

/// Seconds the registrar granted to the contact at `local`.
fn granted(message: &Message<'_>, local: SocketAddr) -> u32 {
    let ours = message.contacts().filter_map(Result::ok).find_map(|contact| match contact {
        Contact::Address(address) if address.uri.text.contains(&local.to_string()) => {
            address.param("expires")?.parse().ok()
        }
        _ => None,
    });
    ours.unwrap_or(0)
}

const T1: Duration = Duration::from_millis(500);
const T2: Duration = Duration::from_secs(4);
const SENDS_MAX: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_the_original_and_where_it_went() {
        let original = b"BYE sip:a@b SIP/2.0\r\nCall-ID: 1\r\n\r\n";
        let copy = copy(original, "192.0.2.1:5060".parse().unwrap(), "[::1]:5061".parse().unwrap(), true);
        let message = scan(&copy).unwrap();
        assert_eq!(message.call_id(), Some("1"));
        assert_eq!(message.named("X-Siptrace-Toip").next(), Some("udp:[::1]:5061"));
        assert_eq!(message.named("X-Siptrace-Dir").next(), Some("out"));
    }
}
