//! One event, whichever format it came in: names with values, in their order. A list is the same name several times.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::model::UnixMillis;

/// What `FreeSWITCH` told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Event {
    fields: Vec<(Box<str>, Box<str>)>,
}

impl Event {
    /// Reads a `text/event-plain` body: lines of `Name: value`, values `%`-encoded, lists as `ARRAY::a|:b`. A body of its
    /// own (`Content-Length`) is left out. None when it names no event.
    #[must_use]
    pub fn from_plain(body: &[u8]) -> Option<Self> {
        let mut event = Self::default();
        for line in body.split(|&byte| byte == b'\n') {
            let line = line.strip_suffix(b"\r").unwrap_or(line);
            if line.is_empty() {
                break;
            }
            let Some(colon) = memchr::memchr(b':', line) else { continue };
            let (name, value) = line.split_at(colon);
            let value = decoded(value.get(1..).unwrap_or_default().trim_ascii());
            event.add(&String::from_utf8_lossy(name), &value);
        }
        event.named()
    }

    /// Reads a `text/event-json` body, or what `uuid_dump … json` answers. None when it is not that.
    #[must_use]
    pub fn from_json(body: &[u8]) -> Option<Self> {
        let mut event = Self::default();
        let mut reader = serde_json::Deserializer::from_slice(body);
        Fields(&mut event).deserialize(&mut reader).ok()?;
        event.named()
    }

    /// The value of a name, the first of several; empty when it is not there.
    #[must_use]
    pub fn get(&self, name: &str) -> &str {
        self.find(name).unwrap_or_default()
    }

    /// The value of a name when it is there and not empty.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&str> {
        let value = self.fields.iter().find(|(known, _)| **known == *name).map(|(_, value)| &**value);
        value.filter(|value| !value.is_empty())
    }

    /// A channel variable.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        let is = |known: &str| known.strip_prefix("variable_") == Some(name);
        let value = self.fields.iter().find(|(known, _)| is(known)).map(|(_, value)| &**value);
        value.filter(|value| !value.is_empty())
    }

    /// All fields in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.fields.iter().map(|(name, value)| (&**name, &**value))
    }

    /// `Event-Name`, or `Event-Subclass` of a custom one.
    #[must_use]
    pub fn name(&self) -> &str {
        match self.get("Event-Name") {
            "CUSTOM" => self.get("Event-Subclass"),
            name => name,
        }
    }

    /// When it happened by the PBX's clock, in steps of some 20 ms.
    #[must_use]
    pub fn at(&self) -> Option<UnixMillis> {
        let microseconds: i64 = self.get("Event-Date-Timestamp").parse().ok()?;
        (microseconds > 0).then_some(UnixMillis(microseconds / 1000))
    }

    fn add(&mut self, name: &str, value: &str) {
        if let Some(list) = value.strip_prefix("ARRAY::") {
            list.split("|:").for_each(|item| self.add_one(name, item));
        } else {
            self.add_one(name, value);
        }
    }

    fn add_one(&mut self, name: &str, value: &str) {
        if self.fields.len() < FIELDS_MAX {
            self.fields.push((short(name, NAME_MAX).into(), short(value, VALUE_MAX).into()));
        }
    }

    fn named(self) -> Option<Self> {
        self.find("Event-Name").is_some().then_some(self)
    }
}

/// The beginning of a text, of at most `max` bytes.
pub(super) fn short(text: &str, max: usize) -> &str {
    text.get(..text.floor_char_boundary(max)).unwrap_or(text)
}

/// Undoes `%xx`. What is no escape stays as it is.
fn decoded(value: &[u8]) -> Cow<'_, str> {
    if !value.contains(&b'%') {
        return String::from_utf8_lossy(value);
    }
    let digit = |at: usize| value.get(at).and_then(|&byte| char::from(byte).to_digit(16));
    let (mut out, mut at) = (Vec::with_capacity(value.len()), 0);
    while let Some(&byte) = value.get(at) {
        let escaped = (byte == b'%').then(|| Some((digit(at + 1)?, digit(at + 2)?))).flatten();
        if let Some((high, low)) = escaped {
            out.push(u8::try_from(high * 16 + low).unwrap_or(b'?'));
            at += 3;
        } else {
            out.push(byte);
            at += 1;
        }
    }
    Cow::Owned(String::from_utf8_lossy(&out).into_owned())
}

/// Reads a JSON object into an event's fields; values other than texts and lists of texts are passed over.
struct Fields<'a>(&'a mut Event);

impl<'de> DeserializeSeed<'de> for Fields<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(name) = map.next_key::<Cow<'_, str>>()? {
            map.next_value_seed(Value { event: self.0, name: &name })?;
        }
        Ok(())
    }
}

struct Value<'a> {
    event: &'a mut Event,
    name: &'a str,
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        self.event.add_one(self.name, text);
        Ok(())
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<(), E> {
        self.visit_str(&number.to_string())
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<(), E> {
        self.visit_str(&number.to_string())
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<(), E> {
        self.visit_str(&number.to_string())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        self.visit_str(if value { "true" } else { "false" })
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while let Some(item) = list.next_element::<Cow<'_, str>>()? {
            self.event.add_one(self.name, &item);
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(())
    }
}

/// More fields than this of one event are not looked at.
const FIELDS_MAX: usize = 4_096;
/// Longer names and values are cut; a session description has 1 kB or so.
const NAME_MAX: usize = 256;
const VALUE_MAX: usize = 8 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_and_json_say_the_same() {
        let plain =
            b"Event-Subclass: sofia%3A%3Aregister\nEvent-Name: CUSTOM\nlist: ARRAY::a|:b%20c\nn: 5\nx: 100%\n\nbody";
        let json = br#"{"Event-Subclass":"sofia::register","Event-Name":"CUSTOM","list":["a","b c"],"n":5,"x":"100%"}"#;
        let event = Event::from_plain(plain).unwrap();
        assert_eq!(Some(&event), Event::from_json(json).as_ref());
        assert_eq!(event.name(), "sofia::register");
        assert_eq!(event.iter().filter(|(name, _)| *name == "list").count(), 2);
    }

    #[test]
    fn what_names_no_event_is_none() {
        for body in [&b""[..], b"garbage", b"{", b"[1,2]", b"{}", b"\xff\xfe: \xff", b"{\"Event-Name\":{}}"] {
            assert_eq!(Event::from_plain(body), None);
            assert_eq!(Event::from_json(body), None);
        }
    }
}
