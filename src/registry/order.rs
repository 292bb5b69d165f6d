//! The order in which devices are listed: by extension, the shorter first, so that 99 comes before 100.

use std::cmp::Ordering;

use uuid::Uuid;

use crate::model::{Device, DeviceId};

/// A device's place: length of the extension, extension, id. Digits are kept as a number, since nearly all extensions
/// are digits and there may be a million.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OrderKey {
    extension: Extension,
    pub(super) id: DeviceId,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Extension {
    /// Digits, read as a number with a 1 before them: `007` is 1007, which sorts by length and then by value.
    Digits(u64),
    /// Anything else.
    Text(Box<str>),
}

impl OrderKey {
    pub(super) fn new(extension: &str, id: DeviceId) -> Self {
        let digits = extension.len() <= DIGITS_MAX && extension.bytes().all(|byte| byte.is_ascii_digit());
        let number =
            extension.bytes().fold(1, |number: u64, byte| number.wrapping_mul(10).wrapping_add((byte & 15).into()));
        let extension = if digits { Extension::Digits(number) } else { Extension::Text(extension.into()) };
        Self { extension, id }
    }

    /// The device's place.
    pub(super) fn of(device: &Device) -> Self {
        Self::new(device.extension.as_deref().unwrap_or(&device.user), device.id)
    }

    /// Before every device of this extension.
    pub(super) fn first(extension: &str) -> Self {
        Self::new(extension, DeviceId(Uuid::nil()))
    }

    /// Whether both have the same extension.
    pub(super) fn same_extension(&self, other: &Self) -> bool {
        self.extension == other.extension
    }

    /// The place as a text that any string can be read back from.
    pub(super) fn to_cursor(&self) -> String {
        let id = self.id.0.simple();
        match &self.extension {
            // Without the 1.
            Extension::Digits(number) => format!("{}~{id}", number.to_string().get(1..).unwrap_or_default()),
            Extension::Text(text) => format!("{text}~{id}"),
        }
    }

    pub(super) fn from_cursor(cursor: &str) -> Self {
        let parts = cursor.rsplit_once('~').and_then(|(extension, id)| Some((extension, Uuid::try_parse(id).ok()?)));
        parts.map_or_else(|| Self::first(cursor), |(extension, id)| Self::new(extension, DeviceId(id)))
    }
}

impl Extension {
    fn length(&self) -> usize {
        match self {
            Self::Digits(number) => number.ilog10() as usize,
            Self::Text(text) => text.chars().count(),
        }
    }
}

impl Ord for Extension {
    fn cmp(&self, other: &Self) -> Ordering {
        self.length().cmp(&other.length()).then_with(|| match (self, other) {
            (Self::Digits(a), Self::Digits(b)) => a.cmp(b),
            (Self::Text(a), Self::Text(b)) => a.cmp(b),
            (Self::Digits(_), Self::Text(_)) => Ordering::Less,
            (Self::Text(_), Self::Digits(_)) => Ordering::Greater,
        })
    }
}

impl PartialOrd for Extension {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// As many digits as a `u64` holds behind a 1.
const DIGITS_MAX: usize = 18;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(extension: &str) -> OrderKey {
        OrderKey::new(extension, DeviceId(Uuid::from_u128(7)))
    }

    #[test]
    fn shorter_extensions_come_first_and_digits_before_words() {
        let listed =
            ["", "7", "07", "99", "ab", "éa", "007", "100", "*97", "0000000000000000000", "00000000000000000000"];
        assert!(listed.map(key).is_sorted(), "{:?}", listed.map(key));
    }

    #[test]
    fn a_place_comes_back_from_its_cursor_and_any_text_is_a_place() {
        for extension in ["", "7", "007", "ab~c", "~", "99999999999999999999999", "1~2"] {
            assert_eq!(OrderKey::from_cursor(&key(extension).to_cursor()), key(extension), "{extension}");
        }
        for text in ["", "~", "x~y", "100", "é~"] {
            OrderKey::from_cursor(text);
        }
        assert!(OrderKey::first("100") < key("100") && OrderKey::first("100").same_extension(&key("100")));
        assert!(!key("07").same_extension(&key("7")));
    }

    #[test]
    fn a_place_stays_small() {
        assert!(size_of::<OrderKey>() <= 32, "{}", size_of::<OrderKey>());
    }
}
