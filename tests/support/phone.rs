//! A phone as a test wants one: it says exactly what it is told, and hears what comes back.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::time::timeout;

/// A UDP phone for tests.
#[derive(Debug)]
pub struct Phone {
    /// Its socket.
    pub socket: UdpSocket,
    /// Where it listens.
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
