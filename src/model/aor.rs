//! Addresses-of-record and their canonical form (RFC 3261 §10.3).

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use serde::{Deserialize, Serialize};

/// `sip:user@domain` in canonical form: escapes of unreserved characters undone, host in lower case, no port, no
/// parameters (RFC 3261 §10.3 step 5). `sips:` and `tel:` name the same device as `sip:`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(transparent)]
#[schema(value_type = String)]
pub struct Aor(String);

impl Aor {
    /// Joins a canonical user part and a canonical domain (see [`canonical_user`], [`canonical_host`]).
    #[must_use]
    pub fn new(user: &str, domain: &str) -> Self {
        Self(format!("sip:{user}@{domain}"))
    }

    /// The whole URI.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Aor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Aor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Aor({})", self.0)
    }
}

/// The user part with every `%xx` of a character that needs no escape decoded, other escapes in upper case.
/// Case is kept: user parts are case-sensitive (RFC 3261 §19.1.4).
#[must_use]
pub fn canonical_user(user: &str) -> Cow<'_, str> {
    if !user.contains('%') {
        return Cow::Borrowed(user);
    }
    let bytes = user.as_bytes();
    let mut out = String::with_capacity(user.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = (bytes[at] == b'%').then(|| bytes.get(at + 1..at + 3)).flatten();
        // A number may have a sign, an escape has none.
        let hex = hex.filter(|hex| hex.iter().all(u8::is_ascii_hexdigit));
        let decoded = hex.and_then(|h| std::str::from_utf8(h).ok()).and_then(|h| u8::from_str_radix(h, 16).ok());
        match decoded {
            Some(byte) if is_user_character(byte) => {
                out.push(char::from(byte));
                at += 3;
            }
            Some(byte) => {
                let _ = write!(out, "%{byte:02X}");
                at += 3;
            }
            None => {
                // `at` only ever steps over whole ASCII escapes or whole characters, so this is a boundary.
                let Some(character) = user[at..].chars().next() else { break };
                out.push(character);
                at += character.len_utf8();
            }
        }
    }
    Cow::Owned(out)
}

/// The host in lower case, without a trailing dot; IPv6 references keep their brackets.
#[must_use]
pub fn canonical_host(host: &str) -> Cow<'_, str> {
    let host = host.strip_suffix('.').unwrap_or(host);
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

/// `unreserved / user-unreserved` of RFC 3261 §25.1.
fn is_user_character(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_of_plain_characters_are_undone_and_the_others_kept() {
        assert_eq!(canonical_user("%61lice"), "alice");
        assert_eq!(canonical_user("a%40b"), "a%40b");
        assert_eq!(canonical_user("a%3ab"), "a%3Ab");
        assert_eq!(canonical_user("100%"), "100%");
        assert_eq!(canonical_user("ü%zz%6"), "ü%zz%6");
        assert_eq!(canonical_user("a%+5"), "a%+5", "no escape");
    }

    #[test]
    fn hosts_compare_without_case_and_without_the_root_dot() {
        assert_eq!(canonical_host("PBX.Example."), "pbx.example");
        assert_eq!(canonical_host("[2001:DB8::1]"), "[2001:db8::1]");
    }
}
