//! A REGISTER as a desk phone writes it, and what is read of its answer.

use std::io::Write as _;
use std::net::SocketAddr;

/// One REGISTER.
#[derive(Clone, Copy, Debug)]
pub struct Request<'r> {
    /// As Via writes it.
    pub transport: &'static str,
    /// Where it is sent from.
    pub own: SocketAddr,
    /// What names of this kind of users begin with.
    pub prefix: &'static str,
    /// Which of them.
    pub user: usize,
    /// Tells it from all others of a run.
    pub number: usize,
    /// How often this user has registered before.
    pub round: usize,
    /// The value of its Authorization header; the first try of a phone that has never been asked has none.
    pub proof: Option<&'r str>,
    /// Whether it is sent again because of a challenge.
    pub again: bool,
}

impl Request<'_> {
    /// Writes it in place of what `text` holds. A phone's Contact is the same in all runs and over all transports: it has
    /// one binding, however often it comes.
    pub fn write(&self, text: &mut Vec<u8>) {
        let Self { transport, own, prefix, user, number, round, proof, again } = *self;
        let (cseq, try_) = (2 * round + 1 + usize::from(again), if again { "b" } else { "a" });
        text.clear();
        // Writing to a Vec can't fail.
        let _ = write!(
            text,
            "REGISTER {URI} SIP/2.0\r\n\
             Via: SIP/2.0/{transport} {own};branch={BRANCH}{number}{try_};rport\r\n\
             Max-Forwards: 70\r\n\
             From: <sip:{prefix}{user}@{DOMAIN}>;tag=t{user}\r\n\
             To: <sip:{prefix}{user}@{DOMAIN}>\r\n\
             Call-ID: c{user}@{DOMAIN}\r\n\
             CSeq: {cseq} REGISTER\r\n\
             Contact: <sip:{prefix}{user}@192.0.2.7:5060>;expires=3600\r\n\
             User-Agent: Desk Phone 66.85.0.5\r\n\
             Allow: INVITE, ACK, OPTIONS, BYE, CANCEL, REFER, NOTIFY, INFO\r\n\
             Supported: path, outbound\r\n"
        );
        if let Some(proof) = proof {
            let _ = write!(text, "Authorization: {proof}\r\n");
        }
        text.extend_from_slice(b"Content-Length: 0\r\n\r\n");
    }
}

/// The status of an answer, and the number of the request it is to.
pub fn read(answer: &[u8]) -> Option<(u16, usize)> {
    let status = std::str::from_utf8(answer.get(8..11)?).ok()?.parse().ok()?;
    let branch = memchr::memmem::find(answer, BRANCH.as_bytes())? + BRANCH.len();
    let digits = answer[branch..].iter().take_while(|byte| byte.is_ascii_digit());
    Some((status, digits.fold(0, |number, digit| number * 10 + usize::from(digit - b'0'))))
}

/// What is registered in.
pub const DOMAIN: &str = "pbx.example";
/// The Request-URI.
pub const URI: &str = "sip:pbx.example";
const BRANCH: &str = "z9hG4bK";
