//! Two dialogs that are the two ends of one call: by what they say of one another, and only when nothing else fits.

use crate::model::Tick;

/// One dialog, as far as it matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Half {
    /// Whose dialog it is.
    pub user: String,
    /// The user part of the other side, when it is known.
    pub remote: Option<String>,
    /// It placed the call; else it was called.
    pub caller: bool,
    /// When it was first heard of.
    pub began: Tick,
    /// It has its other half already.
    pub joined: bool,
}

/// Index of the other half of `all[at]`, when exactly one fits it and it alone fits that one.
pub fn other(all: &[&Half], at: usize) -> Option<usize> {
    let found = only(all, at)?;
    (only(all, found) == Some(at)).then_some(found)
}

/// The only one that fits.
fn only(all: &[&Half], at: usize) -> Option<usize> {
    let half = all.get(at)?;
    let mut fitting = all.iter().enumerate().filter(|(other, candidate)| *other != at && fit(half, candidate));
    match (fitting.next(), fitting.next()) {
        (Some((found, _)), None) => Some(found),
        _ => None,
    }
}

fn fit(one: &Half, other: &Half) -> bool {
    let (caller, called) = if one.caller { (one, other) } else { (other, one) };
    let apart_ms = (one.began - other.began).max(other.began - one.began);
    caller.caller
        && !called.caller
        && !one.joined
        && !other.joined
        && apart_ms <= APART_MS_MAX
        && called.remote.as_deref() == Some(caller.user.as_str())
        // A caller whose dialog does not say whom it called (Asterisk) is named by who was called.
        && caller.remote.as_deref().is_none_or(|remote| remote == called.user)
}

/// How far apart the two ends of a call may be heard of.
const APART_MS_MAX: u64 = 3_000;

#[cfg(test)]
mod tests {
    use super::*;

    fn half(user: &str, remote: &str, caller: bool, began: u64) -> Half {
        let remote = (!remote.is_empty()).then(|| remote.to_owned());
        Half { user: user.into(), remote, caller, began: Tick(began), joined: false }
    }

    fn other_of(all: &[Half], at: usize) -> Option<usize> {
        other(&all.iter().collect::<Vec<_>>(), at)
    }

    #[test]
    fn the_two_ends_of_a_call_find_each_other_by_their_identities() {
        let ends = [half("101", "102", true, 0), half("102", "101", false, 500), half("103", "104", true, 0)];
        assert_eq!((other_of(&ends, 0), other_of(&ends, 1), other_of(&ends, 2)), (Some(1), Some(0), None));
        let silent = [half("101", "", true, 0), half("102", "101", false, 500)];
        assert_eq!(other_of(&silent, 1), Some(0), "one end names the other");
    }

    #[test]
    fn where_two_fit_or_the_time_does_not_nothing_is_guessed() {
        let two = [half("101", "102", true, 0), half("102", "101", false, 500), half("102", "101", false, 900)];
        assert_eq!((other_of(&two, 0), other_of(&two, 1), other_of(&two, 2)), (None, None, None));
        let late = [half("101", "102", true, 0), half("102", "101", false, 3_001)];
        assert_eq!(other_of(&late, 1), None);
        let both_called = [half("101", "102", false, 0), half("102", "101", false, 0)];
        assert_eq!(other_of(&both_called, 0), None);
        let nobody = [half("101", "", true, 0), half("102", "", false, 0)];
        assert_eq!(other_of(&nobody, 0), None);
        let mut taken = [half("101", "102", true, 0), half("102", "101", false, 500)];
        taken[0].joined = true;
        assert_eq!(other_of(&taken, 1), None);
    }
}
