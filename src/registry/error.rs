//! Why a change was not made.

use crate::store::Seq;

/// Why a change was not made. Nothing is half done when one of these comes back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// There is no such record, or it is another account's.
    #[error("not found")]
    NotFound,
    /// The caller edited an older version.
    #[error("changed meanwhile: now at version {current}")]
    Stale {
        /// The version there is.
        current: Seq,
    },
    /// Another record already has what must be unique.
    #[error("{detail}")]
    Conflict {
        /// What, in words for the one who asked.
        detail: String,
    },
    /// There are as many as there may be.
    #[error("limit reached: {what}")]
    Limit {
        /// The limit's name.
        what: &'static str,
    },
    /// Others still need it.
    #[error("{detail}")]
    InUse {
        /// Which, in words for the one who asked.
        detail: String,
    },
    /// The value can't be kept as it is.
    #[error("{detail}")]
    Invalid {
        /// Why, in words for the one who asked.
        detail: String,
    },
}
