//! REGISTERs over UDP from many users, a fixed number of them unanswered at any time.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// What to offer.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// The registrar.
    pub to: SocketAddr,
    /// The domain registered in.
    pub domain: &'static str,
    /// Addresses-of-record, one after the other, again and again.
    pub users: usize,
    /// REGISTERs in all.
    pub requests: usize,
    /// REGISTERs that wait for their answer at a time.
    pub window: usize,
    /// CSeq of the first round; a later run of the same users begins above it.
    pub first_cseq: usize,
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Answered 200.
    pub accepted: usize,
    /// Answered anything else.
    pub refused: usize,
    /// Not answered within [`PATIENCE`]; nothing is sent again.
    pub lost: usize,
    /// From the first request to the last answer.
    pub took: Duration,
    /// Of each answer, from its request on, in order of length.
    pub waits: Vec<Duration>,
}

impl Outcome {
    /// Answers a second.
    #[allow(clippy::cast_precision_loss, reason = "shown to people")]
    pub fn rate(&self) -> f64 {
        (self.accepted + self.refused) as f64 / self.took.as_secs_f64()
    }

    /// How long all but one in `one_in` answers took at most.
    pub fn all_but(&self, one_in: usize) -> Duration {
        let last = self.waits.len().saturating_sub(1);
        self.waits.get(last - last / one_in).copied().unwrap_or_default()
    }
}

/// Offers the load from a socket of its own and waits for the answers.
pub fn offer(load: &Load) -> Outcome {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.connect(load.to).expect("it can be reached");
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a time");
    // Answers of a whole window come at once; the system grants what it may.
    let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(8 << 20);
    let own = socket.local_addr().expect("it is bound");
    let mut requests = Requests { load: *load, own, sent: Vec::with_capacity(load.requests), text: Vec::new() };
    let mut outcome = Outcome::default();
    let mut answered = vec![false; load.requests];
    let started = Instant::now();
    let mut last = started;
    let mut buffer = [0; 4096];
    while outcome.waits.len() < load.requests {
        while requests.sent.len() < load.requests && requests.sent.len() - outcome.waits.len() < load.window {
            requests.send(&socket);
        }
        let Ok(length) = socket.recv(&mut buffer) else {
            if last.elapsed() > PATIENCE {
                break;
            }
            continue;
        };
        let Some((status, number)) = read(&buffer[..length]) else { continue };
        if status < 200 || std::mem::replace(&mut answered[number], true) {
            continue;
        }
        last = Instant::now();
        outcome.waits.push(last - requests.sent[number]);
        *(if status == 200 { &mut outcome.accepted } else { &mut outcome.refused }) += 1;
    }
    outcome.lost = load.requests - outcome.waits.len();
    outcome.took = last - started;
    outcome.waits.sort_unstable();
    outcome
}

struct Requests {
    load: Load,
    own: SocketAddr,
    /// When each was sent.
    sent: Vec<Instant>,
    text: Vec<u8>,
}

impl Requests {
    fn send(&mut self, socket: &UdpSocket) {
        use std::io::Write as _;

        let Self { load: Load { domain, users, first_cseq, .. }, own, .. } = *self;
        let number = self.sent.len();
        let (user, cseq) = (number % users, first_cseq + number / users);
        self.text.clear();
        let _ = write!(
            self.text,
            "REGISTER sip:{domain} SIP/2.0\r\n\
             Via: SIP/2.0/UDP {own};branch=z9hG4bK{number};rport\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:u{user}@{domain}>;tag=t{user}\r\n\
             To: <sip:u{user}@{domain}>\r\n\
             Call-ID: c{user}@{domain}\r\n\
             CSeq: {cseq} REGISTER\r\n\
             Contact: <sip:u{user}@{own};transport=udp>;expires=3600\r\n\
             User-Agent: Desk Phone 66.85.0.5\r\n\
             Allow: INVITE, ACK, OPTIONS, BYE, CANCEL, REFER, NOTIFY, INFO\r\n\
             Supported: path, outbound\r\n\
             Content-Length: 0\r\n\r\n"
        );
        self.sent.push(Instant::now());
        socket.send(&self.text).expect("it is sent");
    }
}

/// The status of an answer, and the number in its branch.
fn read(answer: &[u8]) -> Option<(u16, usize)> {
    let status = std::str::from_utf8(answer.get(8..11)?).ok()?.parse().ok()?;
    let branch = memchr::memmem::find(answer, b"branch=z9hG4bK")? + b"branch=z9hG4bK".len();
    let digits = answer[branch..].iter().take_while(|byte| byte.is_ascii_digit());
    Some((status, digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0'))))
}

/// An answer that takes longer will not come.
const PATIENCE: Duration = Duration::from_secs(6);
