//! One message of the manager interface: keys and values, in order, keys repeated as they came.

use std::fmt;

/// An event, a response, or anything else made of `Key: value` lines.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// All keys and values one after the other; bytes that are not UTF-8 stand as U+FFFD.
    text: String,
    fields: Vec<Field>,
}

/// Where a field stands in the text: the key from `key` to `value`, the value from there to `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Field {
    key: usize,
    value: usize,
    end: usize,
}

impl Message {
    /// The first value under this key (compared without case). Asterisk's ways to write nothing (an empty value,
    /// `<unknown>`, `<null>`, `(null)`) are none.
    #[must_use]
    pub fn text(&self, key: &str) -> Option<&str> {
        self.raw(key).filter(|value| !NOTHING.iter().any(|nothing| value.eq_ignore_ascii_case(nothing)))
    }

    /// The first value under this key as it was sent.
    #[must_use]
    pub fn raw(&self, key: &str) -> Option<&str> {
        self.fields().find(|(name, _)| name.eq_ignore_ascii_case(key)).map(|(_, value)| value)
    }

    /// The first of these keys that says something.
    #[must_use]
    pub fn either(&self, keys: &[&str]) -> Option<&str> {
        keys.iter().find_map(|key| self.text(key))
    }

    /// A value as a number.
    #[must_use]
    pub fn number<T: std::str::FromStr>(&self, key: &str) -> Option<T> {
        self.text(key)?.trim().parse().ok()
    }

    /// A value that is a switch: `1`, `yes`, `true`, `on` or the opposite.
    #[must_use]
    pub fn flag(&self, key: &str) -> Option<bool> {
        let value = self.text(key)?.trim();
        let is = |words: &[&str]| words.iter().any(|word| value.eq_ignore_ascii_case(word));
        if is(&["1", "yes", "true", "on"]) {
            Some(true)
        } else if is(&["0", "no", "false", "off"]) {
            Some(false)
        } else {
            None
        }
    }

    /// All fields in order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|field| {
            let part = |from, to| self.text.get(from..to).unwrap_or_default();
            (part(field.key, field.value), part(field.value, field.end))
        })
    }

    /// Whether it has no field at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) {
        let start = self.text.len();
        self.text.push_str(&String::from_utf8_lossy(key));
        let middle = self.text.len();
        self.text.push_str(&String::from_utf8_lossy(value));
        self.fields.push(Field { key: start, value: middle, end: self.text.len() });
    }

    pub(super) fn field_count(&self) -> usize {
        self.fields.len()
    }

    pub(super) fn size(&self) -> usize {
        self.text.len()
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.fields()).finish()
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Message {
    fn from(fields: [(&str, &str); N]) -> Self {
        let mut message = Self::default();
        for (key, value) in fields {
            message.push(key.as_bytes(), value.as_bytes());
        }
        message
    }
}

const NOTHING: [&str; 4] = ["", "<unknown>", "<null>", "(null)"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_compared_without_case_and_the_first_of_several_counts() {
        let message = Message::from([("Event", "Hangup"), ("ChanVariable", "A=1"), ("ChanVariable", "B=2")]);
        assert_eq!(message.text("event"), Some("Hangup"));
        assert_eq!(message.text("CHANVARIABLE"), Some("A=1"));
        assert_eq!(message.fields().filter(|(key, _)| *key == "ChanVariable").count(), 2);
    }

    #[test]
    fn what_asterisk_writes_for_nothing_is_nothing() {
        for nothing in ["", "<unknown>", "<Unknown>", "<null>", "(null)"] {
            assert_eq!(Message::from([("CallerIDNum", nothing)]).text("CallerIDNum"), None, "{nothing:?}");
        }
        assert_eq!(Message::from([("CallerIDNum", "<unknown>")]).raw("CallerIDNum"), Some("<unknown>"));
        assert_eq!(Message::from([("A", ""), ("B", "x")]).either(&["A", "B"]), Some("x"));
    }

    #[test]
    fn switches_and_numbers_are_read_as_asterisk_writes_them() {
        let message = Message::from([("Paused", "1"), ("Dynamic", "no"), ("Penalty", " 5"), ("Wait", "soon")]);
        assert_eq!(
            (message.flag("Paused"), message.flag("Dynamic"), message.flag("Wait")),
            (Some(true), Some(false), None)
        );
        assert_eq!((message.number::<u32>("Penalty"), message.number::<u32>("Wait")), (Some(5), None));
    }
}
