//! A server's challenge, and our answer to it.

use hookswitch::sip::digest::{Challenge, Credentials};
use hookswitch::sip::scan;

/// Answers a 401 or 407. What the server reads in the answer is what it has sent, and nothing breaks out of its line.
pub fn run(bytes: &[u8]) {
    let Ok(message) = scan(bytes) else { return };
    let Some(challenge) = Challenge::strongest(&message) else { return };
    let credentials = Credentials { user: "an \"odd\" \\ one".into(), password: "secret".into() };
    let (name, value) = challenge.answer(&credentials, "REGISTER", "sip:pbx.example", 1, "0a4f113b");
    assert_eq!(name, if challenge.proxy { "Proxy-Authorization" } else { "Authorization" });
    assert!(!value.contains(['\r', '\n', '\0']) && !value.contains("secret"), "{value:?}");
    let read = Challenge::parse(&value, challenge.proxy).unwrap_or_else(|| panic!("no answer: {value:?}"));
    let Challenge { realm, nonce, opaque, algorithm, qop_auth, .. } = challenge;
    assert_eq!((read.realm, read.nonce, read.opaque), (realm, nonce, opaque), "{value:?}");
    assert_eq!((read.algorithm, read.qop_auth), (algorithm, qop_auth), "{value:?}");
}
