//! Columns: how single values are written down and read back, and which row was wrong when one can't be.

use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{Seq, StoreError};

/// A row of a table, as sqlx reads it, and the record it means.
pub(super) trait Readable {
    type Record;
    fn into_record(self) -> Result<Self::Record, StoreError>;
}

/// An enum without fields as its one word.
pub(super) fn word(value: &impl Serialize) -> Option<String> {
    serde_json::to_value(value).ok()?.as_str().map(Into::into)
}

/// A list or a settings object as text.
pub(super) fn json(value: &impl Serialize) -> String {
    // Strings, numbers and lists of them: nothing here can fail to serialise.
    serde_json::to_string(value).unwrap_or_default()
}

/// Numbers are stored as they are; a negative one is none of ours and counts as none.
pub(super) fn seq(number: i64) -> Seq {
    Seq(u64::try_from(number).unwrap_or(0))
}

/// Which row is being read, for the error that names it.
#[derive(Clone, Copy)]
pub(super) struct At<'a> {
    pub(super) table: &'static str,
    pub(super) row: &'a str,
}

impl At<'_> {
    pub(super) fn id(self, column: &'static str, text: &str) -> Result<Uuid, StoreError> {
        self.parsed(column, text)
    }

    pub(super) fn optional_id(self, column: &'static str, text: Option<&str>) -> Result<Option<Uuid>, StoreError> {
        text.map(|text| self.id(column, text)).transpose()
    }

    pub(super) fn json<T: DeserializeOwned>(self, column: &'static str, text: &str) -> Result<T, StoreError> {
        serde_json::from_str(text).map_err(|error| self.corrupt(column, &error))
    }

    pub(super) fn word<T: DeserializeOwned>(self, column: &'static str, text: &str) -> Result<T, StoreError> {
        serde_json::from_value(text.into()).map_err(|error| self.corrupt(column, &error))
    }

    pub(super) fn number<T: TryFrom<i64, Error: std::fmt::Display>>(
        self,
        column: &'static str,
        value: i64,
    ) -> Result<T, StoreError> {
        T::try_from(value).map_err(|error| self.corrupt(column, &error))
    }

    pub(super) fn parsed<T: std::str::FromStr<Err: std::fmt::Display>>(
        self,
        column: &'static str,
        text: &str,
    ) -> Result<T, StoreError> {
        text.parse().map_err(|error| self.corrupt(column, &error))
    }

    /// Bytes in hexadecimal.
    pub(super) fn bytes<const N: usize>(self, column: &'static str, text: &str) -> Result<[u8; N], StoreError> {
        let wrong = || self.corrupt(column, &format_args!("not {N} bytes in hexadecimal"));
        let mut bytes = [0; N];
        if text.len() != 2 * N || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            let pair = text.get(2 * at..2 * at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
            *byte = pair.ok_or_else(wrong)?;
        }
        Ok(bytes)
    }

    pub(super) fn corrupt(self, column: &'static str, detail: &impl std::fmt::Display) -> StoreError {
        StoreError::Corrupt { table: self.table, column, row: self.row.into(), detail: detail.to_string() }
    }
}
