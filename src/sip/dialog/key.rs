//! A leg's key within its site, which is also all that a restart needs to know it again.

use std::hash::{BuildHasher as _, Hash};

use crate::model::{ContactKey, LegKey};

/// A branch, a tag or a Request-URI as what it hashes to: it is compared with messages of its Call-ID and never shown, so it
/// need not take memory of its own, which would be cold by the time it is looked at. Of the few legs of one Call-ID no two
/// hash alike by chance; a peer who brings it about confuses nobody's calls but its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Token(u64);

impl Token {
    /// Nothing was said, or it is not known after a restart.
    pub const NONE: Self = Self(0);

    pub fn of(text: &str) -> Self {
        if text.is_empty() {
            return Self::NONE;
        }
        Self::hash(text)
    }

    /// Of where an INVITE goes.
    pub fn of_target(target: &ContactKey) -> Self {
        Self::hash(target)
    }

    fn hash(what: impl Hash) -> Self {
        // The same in every run: the same messages replayed give the same events.
        Self(foldhash::quality::FixedState::default().hash_one(what) | 1)
    }

    pub fn is_none(self) -> bool {
        self == Self::NONE
    }
}

/// `Call-ID;hop=2;to=101@192.0.2.50:5060`, and `;again=1` for a target tried once more.
pub(super) fn compose_key(call_id: &str, hop: usize, target: &ContactKey, again: usize) -> LegKey {
    let ContactKey { user, host, port } = target;
    let port = port.map_or_else(String::new, |port| format!(":{port}"));
    let again = if again == 0 { String::new() } else { format!(";again={again}") };
    LegKey(format!("{call_id};hop={hop};to={user}@{host}{port}{again}").into())
}

pub(super) fn parse_key(key: &LegKey) -> Option<(&str, usize, ContactKey)> {
    let (call_id, rest) = key.0.rsplit_once(";hop=")?;
    let (hop, target) = rest.split_once(";to=")?;
    let target = target.split_once(";again=").map_or(target, |(target, _)| target);
    let (user, address) = target.rsplit_once('@')?;
    let (host, port) = match address.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()),
        _ => (address, None),
    };
    Some((call_id, hop.parse().ok()?, ContactKey { user: user.into(), host: host.into(), port }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_says_again_what_it_was_made_of() {
        for (host, port) in
            [("192.0.2.1", Some(5060)), ("[2001:db8::1]", None), ("[2001:db8::1]", Some(5062)), ("pbx.example", None)]
        {
            let target = ContactKey { user: "101;x@y".into(), host: host.into(), port };
            let key = compose_key("a;hop=9@b", 2, &target, 1);
            assert_eq!(parse_key(&key), Some(("a;hop=9@b", 2, target)));
        }
    }
}
