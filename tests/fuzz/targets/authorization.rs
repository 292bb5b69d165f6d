//! What a phone shows to prove that it knows its password.

use hookswitch::sip::digest::{Authorization, AuthorizationFault, Challenge, Credentials, ha1};
use hookswitch::sip::syntax::unfold;
use hookswitch::sip::{Name, scan};

/// Judges each `Authorization` of a message. What was read is there and stays between its quotes; nobody's password is proved by
/// what an outsider writes, and whoever knows the password is believed, however odd the realm and the nonce are.
pub fn run(bytes: &[u8]) {
    let Ok(message) = scan(bytes) else { return };
    for value in message.headers(Name::Authorization) {
        let value = unfold(value);
        match Authorization::parse(&value) {
            Ok(Some(shown)) => judge(&value, &shown),
            Ok(None) => assert!(!value.trim().to_ascii_lowercase().starts_with("digest "), "{value:?}"),
            Err(AuthorizationFault::Malformed | AuthorizationFault::NotOffered) => {}
        }
    }
}

fn judge(value: &str, shown: &Authorization<'_>) {
    for text in [shown.username, shown.realm, shown.nonce, shown.uri] {
        assert!(!text.is_empty() && value.as_bytes().as_ptr_range().contains(&text.as_ptr()), "{text:?}");
        assert!(!text.contains(['\r', '\n', '\0']), "{text:?}");
    }
    assert!(value.to_ascii_lowercase().contains(&format!("{:08x}", shown.count)), "{value:?}: {}", shown.count);
    let secret = ha1("101", shown.realm, PASSWORD);
    assert!(!shown.is_proof_of(&secret, "REGISTER"), "{value:?}");
    let Authorization { realm, nonce, uri, algorithm, count, .. } = *shown;
    let challenge = Challenge {
        realm: realm.to_owned(),
        nonce: nonce.to_owned(),
        opaque: None,
        algorithm,
        qop_auth: true,
        stale: false,
        proxy: false,
    };
    let credentials = Credentials { user: "101".to_owned(), password: PASSWORD.to_owned() };
    let (_, answer) = challenge.answer(&credentials, "REGISTER", uri, count, "0a4f113b");
    let Ok(Some(proof)) = Authorization::parse(&answer) else { panic!("{value:?} is answered by {answer:?}") };
    assert_eq!((proof.username, proof.realm, proof.nonce), ("101", realm, nonce), "{answer:?}");
    assert_eq!((proof.uri, proof.algorithm, proof.count), (uri, algorithm, count), "{answer:?}");
    assert!(proof.is_proof_of(&secret, "REGISTER"), "{answer:?}");
    assert!(!proof.is_proof_of(&secret, "INVITE") && !proof.is_proof_of(&ha1("101", realm, "another"), "REGISTER"));
}

/// Nothing that is fuzzed knows it.
const PASSWORD: &str = "a long one of its own";
