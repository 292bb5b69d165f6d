//! The branch of a question: what its answer is known by.

use std::fmt;

/// The part of a Via branch that is drawn at random (RFC 3261 §8.1.1.7), so that only who was asked can answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Branch(pub u128);

impl Branch {
    /// Reads the branch of a response's top Via; none when it is no question's.
    #[must_use]
    pub fn parse(branch: &str) -> Option<Self> {
        let digits = branch.strip_prefix(PREFIX).filter(|digits| digits.len() == DIGITS)?;
        // Else a sign would be read as well.
        digits.bytes().all(|byte| byte.is_ascii_hexdigit()).then_some(())?;
        u128::from_str_radix(digits, 16).ok().map(Self)
    }
}

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{:0DIGITS$x}", self.0)
    }
}

impl fmt::Debug for Branch {
    /// Whoever reads a log must not be able to answer.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Branch(…)")
    }
}

/// The magic cookie, and a word that tells ours in a capture.
const PREFIX: &str = "z9hG4bKalive";
const DIGITS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_branch_is_read_as_it_was_written_and_nothing_else_is() {
        for value in [0, 7, u128::MAX] {
            assert_eq!(Branch::parse(&Branch(value).to_string()), Some(Branch(value)));
        }
        let text = Branch(7).to_string();
        for other in ["", "z9hG4bKalive", &text[1..], &format!("{text}0"), &text.replace("00000007", "0000000+")] {
            assert_eq!(Branch::parse(other), None, "{other}");
        }
        assert_eq!(Branch::parse(&format!("{PREFIX}+{}", "0".repeat(31))), None);
    }
}
