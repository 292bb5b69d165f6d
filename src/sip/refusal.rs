//! A decision not to do what a request asks, and what its answer says.

use std::borrow::Cow;

use smallvec::SmallVec;

use super::fault::HeaderError;

/// The status line and extra headers of a refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Status code, 300–699.
    pub status: u16,
    /// Reason phrase.
    pub reason: Cow<'static, str>,
    /// Extra headers the answer carries, e.g. `Min-Expires`.
    pub headers: SmallVec<[(&'static str, Cow<'static, str>); 1]>,
    /// A metric label: a few stable words, never what the peer wrote.
    pub label: &'static str,
}

impl Refusal {
    /// A refusal without extra headers.
    #[must_use]
    pub fn new(status: u16, reason: &'static str, label: &'static str) -> Self {
        Self { status, reason: Cow::Borrowed(reason), headers: SmallVec::new(), label }
    }

    /// The same with one more header.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: impl Into<Cow<'static, str>>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

impl From<HeaderError> for Refusal {
    /// 400 with a reason phrase that names the header.
    fn from(error: HeaderError) -> Self {
        Self { reason: Cow::Owned(error.to_string()), ..Self::new(400, "", error.label()) }
    }
}
