//! REGISTERs over UDP from many users, a fixed number of them unanswered at any time.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::request::{Request, read};
use super::wallet::Wallet;
use crate::figures::all_but;

/// What to offer.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// The registrar.
    pub to: SocketAddr,
    /// What the users' names begin with.
    pub prefix: &'static str,
    /// Addresses-of-record, one after the other, again and again.
    pub users: usize,
    /// REGISTERs in all, those sent again because of a challenge not counted.
    pub requests: usize,
    /// REGISTERs that wait for their answer at a time.
    pub window: usize,
    /// How often each user has registered before.
    pub first_round: usize,
}

/// What came back.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Answered 200.
    pub accepted: usize,
    /// Answered anything else.
    pub refused: usize,
    /// Answered 401 first, and sent again with a password.
    pub challenged: usize,
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
        all_but(one_in, &self.waits)
    }
}

/// Offers the load from a socket of its own and waits for the answers. Users with a `wallet` answer challenges.
pub fn offer(load: &Load, wallet: Option<&mut Wallet>) -> Outcome {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    socket.connect(load.to).expect("it can be reached");
    socket.set_read_timeout(Some(Duration::from_millis(100))).expect("a time");
    // Answers of a whole window come at once; the system grants what it may.
    let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(8 << 20);
    let own = socket.local_addr().expect("it is bound");
    let sent = Vec::with_capacity(load.requests);
    let mut requests = Requests { load: *load, socket, own, sent, wallet, text: Vec::new() };
    let mut outcome = Outcome::default();
    let mut answered = vec![Answered::default(); load.requests];
    let started = Instant::now();
    let mut last = started;
    let mut buffer = [0; 4096];
    while outcome.waits.len() < load.requests {
        while requests.sent.len() < load.requests && requests.sent.len() - outcome.waits.len() < load.window {
            requests.send_next();
        }
        let Ok(length) = requests.socket.recv(&mut buffer) else {
            if last.elapsed() > PATIENCE {
                break;
            }
            continue;
        };
        let Some((status, number)) = read(&buffer[..length]) else { continue };
        let before = answered[number];
        if status < 200 || before.finally {
            continue;
        }
        last = Instant::now();
        if status == 401 && !before.challenged && requests.send_again(number, &buffer[..length]) {
            answered[number].challenged = true;
            outcome.challenged += 1;
            continue;
        }
        answered[number].finally = true;
        outcome.waits.push(last - requests.sent[number]);
        *(if status == 200 { &mut outcome.accepted } else { &mut outcome.refused }) += 1;
    }
    outcome.lost = load.requests - outcome.waits.len();
    outcome.took = last - started;
    outcome.waits.sort_unstable();
    outcome
}

#[derive(Clone, Copy, Default)]
struct Answered {
    challenged: bool,
    finally: bool,
}

struct Requests<'w> {
    load: Load,
    socket: UdpSocket,
    own: SocketAddr,
    /// When each was sent.
    sent: Vec<Instant>,
    wallet: Option<&'w mut Wallet>,
    text: Vec<u8>,
}

impl Requests<'_> {
    fn send_next(&mut self) {
        let number = self.sent.len();
        self.write(number, false);
        self.sent.push(Instant::now());
        self.socket.send(&self.text).expect("it is sent");
    }

    /// False when there is no password to answer with.
    fn send_again(&mut self, number: usize, challenge: &[u8]) -> bool {
        let user = number % self.load.users;
        if !self.wallet.as_mut().is_some_and(|wallet| wallet.keep(user, challenge)) {
            return false;
        }
        self.write(number, true);
        self.socket.send(&self.text).expect("it is sent");
        true
    }

    fn write(&mut self, number: usize, again: bool) {
        let Load { prefix, users, first_round, .. } = self.load;
        let (user, round) = (number % users, first_round + number / users);
        let proof = self.wallet.as_mut().and_then(|wallet| wallet.proof(user));
        let proof = proof.as_deref();
        Request { transport: "UDP", own: self.own, prefix, user, number, round, proof, again }.write(&mut self.text);
    }
}

/// An answer that takes longer will not come.
pub const PATIENCE: Duration = Duration::from_secs(6);
