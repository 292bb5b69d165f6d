//! The few pieces of SIP grammar that every header value shares (RFC 3261 §25.1): blanks, lists, parameters, quotes.

use std::borrow::Cow;

use memchr::{memchr, memchr2, memchr2_iter, memchr3};

/// `text` without the blanks and line breaks around it.
#[must_use]
pub fn trim(text: &str) -> &str {
    text.trim_ascii()
}

/// A value with its folding undone: each run of blanks that holds a line break becomes one space (RFC 3261 §7.3.1).
#[must_use]
pub fn unfold(value: &str) -> Cow<'_, str> {
    if memchr2(b'\r', b'\n', value.as_bytes()).is_none() {
        return Cow::Borrowed(value);
    }
    let mut out = String::with_capacity(value.len());
    for line in value.split(['\r', '\n']).map(trim).filter(|line| !line.is_empty()) {
        if !out.is_empty() {
            out.push(' ');
        }
        out.push_str(line);
    }
    Cow::Owned(out)
}

/// The comma-separated values of a header, trimmed, empty ones left out. Commas inside quotes or angle brackets do
/// not separate.
pub fn list(value: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(value);
    std::iter::from_fn(move || {
        let (item, more) = split_first(rest?);
        rest = more;
        Some(item)
    })
    .filter(|item| !item.is_empty())
}

/// The first value of a comma list, trimmed, and what follows its comma; none when there is no comma.
#[must_use]
pub fn split_first(value: &str) -> (&str, Option<&str>) {
    match outside(value, b',') {
        Some(comma) => (trim(&value[..comma]), Some(&value[comma + 1..])),
        None => (trim(value), None),
    }
}

/// Whether a list of values with parameters has a semicolon or comma after which nothing comes. Not asked of values
/// with quotes, in which they may stand.
#[must_use]
pub fn has_empty_parts(value: &str) -> bool {
    let bytes = value.as_bytes();
    if memchr(b'"', bytes).is_some() {
        return false;
    }
    memchr2_iter(b';', b',', bytes).any(|at| {
        let rest = bytes.get(at + 1..).unwrap_or_default();
        rest.iter().find(|byte| !byte.is_ascii_whitespace()).is_none_or(|byte| matches!(byte, b';' | b','))
    })
}

/// Whether each zero byte of `text` stands in a quoted pair of the quoted string that `text` starts with.
#[must_use]
pub fn are_nuls_quoted(text: &str) -> bool {
    let Some(close) = closing_quote(text).filter(|_| text.starts_with('"')) else { return false };
    let (quoted, rest) = text.as_bytes().split_at(close);
    let mut bytes = quoted.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            0 => return false,
            b'\\' => _ = bytes.next(),
            _ => {}
        }
    }
    memchr(0, rest).is_none()
}

/// The text of a quoted string or token: outer quotes removed and `\x` pairs undone, folding undone.
#[must_use]
pub fn unquote(text: &str) -> Cow<'_, str> {
    let Some(inner) = text.strip_prefix('"') else { return unfold(text) };
    let inner = inner.strip_suffix('"').unwrap_or(inner);
    if memchr(b'\\', inner.as_bytes()).is_none() {
        return unfold(inner);
    }
    let mut out = String::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(character) = characters.next() {
        match character {
            // A zero byte may stand in a quoted pair (RFC 4475 §3.1.1.2), but no store can keep it.
            '\\' => out.extend(characters.next().filter(|character| *character != '\0')),
            '\r' | '\n' => {}
            other => out.push(other),
        }
    }
    Cow::Owned(out)
}

/// Parameters after a value: `;name`, `;name=token`, `;name="quoted"`, blanks anywhere between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Params<'a>(&'a str);

impl<'a> Params<'a> {
    /// Parameters of `text`, which is empty or starts with a semicolon (blanks before it allowed) and closes the
    /// quotes it opens; else nothing.
    #[must_use]
    pub fn parse(text: &'a str) -> Option<Self> {
        let text = trim(text);
        let mut rest = text;
        while let Some(quote) = memchr(b'"', rest.as_bytes()) {
            rest = &rest[quote..];
            rest = &rest[closing_quote(rest)? + 1..];
        }
        (text.is_empty() || text.starts_with(';')).then_some(Self(text))
    }

    /// As written, with the leading semicolon.
    #[must_use]
    pub fn as_str(self) -> &'a str {
        self.0
    }

    /// All of them in order: name, and value as written (quotes kept).
    pub fn iter(self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> {
        let mut rest = self.0.strip_prefix(';');
        // Nearly always there are none, and tags and branches are looked up in every message.
        let has_quotes = memchr(b'"', self.0.as_bytes()).is_some();
        std::iter::from_fn(move || {
            let text = rest?;
            let end = if has_quotes { outside_quotes(text, b';') } else { memchr(b';', text.as_bytes()) };
            let (item, more) = match end {
                Some(at) => (&text[..at], Some(&text[at + 1..])),
                None => (text, None),
            };
            rest = more;
            Some(match memchr(b'=', item.as_bytes()) {
                Some(equals) => (trim(&item[..equals]), Some(trim(&item[equals + 1..]))),
                None => (trim(item), None),
            })
        })
        .filter(|(name, _)| !name.is_empty())
    }

    /// The first parameter of this name (any case): its value as written, the inner option none when it has no `=`.
    #[must_use]
    pub fn find(self, name: &str) -> Option<Option<&'a str>> {
        self.iter().find(|(candidate, _)| candidate.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// The value, as written, of the first parameter of this name; none also when it has no `=`.
    #[must_use]
    pub fn value(self, name: &str) -> Option<&'a str> {
        self.find(name).flatten()
    }
}

/// Whether `byte` may stand in a `token`.
#[must_use]
pub fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&byte)
}

/// Whether `text` is a non-empty `token`.
#[must_use]
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|byte| is_token_byte(*byte))
}

/// Whether any byte of `text` is one of those `barred`. There is no way out before the end, so that the compiler can judge
/// many bytes at once: nearly always there is none.
#[must_use]
pub fn has_any(text: &str, barred: impl Fn(u8) -> bool) -> bool {
    text.bytes().fold(0, |found, byte| found | u8::from(barred(byte))) != 0
}

/// Where the quoted string that opens at the start of `text` closes: the index of its closing quote.
#[must_use]
pub fn closing_quote(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 1;
    loop {
        let hit = at + memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[hit] == b'"' {
            return Some(hit);
        }
        at = hit + 2;
    }
}

/// Index of the first `separator` in `text` that is not in quotes.
fn outside_quotes(text: &str, separator: u8) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        let hit = at + memchr2(separator, b'"', bytes.get(at..)?)?;
        if bytes[hit] == separator {
            return Some(hit);
        }
        at = hit + closing_quote(&text[hit..])? + 1;
    }
}

/// Index of the first `separator` in `text` that is in neither quotes nor angle brackets. An opening quote or bracket
/// that never closes hides the rest.
fn outside(text: &str, separator: u8) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    loop {
        let hit = at + memchr3(separator, b'"', b'<', bytes.get(at..)?)?;
        at = match bytes[hit] {
            b'"' => hit + closing_quote(&text[hit..])? + 1,
            b'<' => hit + memchr(b'>', &bytes[hit..])? + 1,
            _ => return Some(hit),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_split_at_commas_outside_quotes_and_brackets_only() {
        let value = r#""Doe, \"J\"" <sip:a@b;x=1,2>;q=1 , <sip:c@d> ,, sip:e@f"#;
        let items: Vec<_> = list(value).collect();
        assert_eq!(items, [r#""Doe, \"J\"" <sip:a@b;x=1,2>;q=1"#, "<sip:c@d>", "sip:e@f"]);
    }

    #[test]
    fn parameters_are_found_in_any_case_with_quotes_and_blanks() {
        let params = Params::parse(r#" ; A = 1;b;+sip.instance="<urn:uuid:x;y>" ;tag=z"#).unwrap();
        assert_eq!(params.value("a"), Some("1"));
        assert_eq!(params.find("B"), Some(None));
        assert_eq!(params.value("+sip.instance"), Some(r#""<urn:uuid:x;y>""#));
        assert_eq!(params.value("tag"), Some("z"));
        assert_eq!(params.find("none"), None);
        assert_eq!(Params::parse("x=1"), None);
        assert_eq!(Params::parse(";x=\"1"), None, "what is written after it would become part of it");
    }

    #[test]
    fn separators_that_separate_nothing_are_seen() {
        for good in ["a", "a;b", "a ; b , c;d=e", r#"a;b=";;,""#] {
            assert!(!has_empty_parts(good), "{good}");
        }
        for bad in ["a;", "a;;b", "a; ;b", "a;,b", "a,", "a,;b"] {
            assert!(has_empty_parts(bad), "{bad}");
        }
    }

    #[test]
    fn zero_bytes_are_taken_in_quoted_pairs_only() {
        assert!(are_nuls_quoted("\"a\\\0b\" <sip:a@b>"));
        for bad in ["\"a\0b\" <sip:a@b>", "\"a\\\\\0b\" <sip:a@b>", "\"a\" <sip:a\\\0@b>", "a\\\0 <sip:a@b>"] {
            assert!(!are_nuls_quoted(bad), "{bad:?}");
        }
        assert_eq!(unquote("\"a\\\0b\""), "ab");
    }

    #[test]
    fn quotes_and_folding_are_undone() {
        assert_eq!(unquote(r#""a \"b\" \\c""#), r#"a "b" \c"#);
        assert_eq!(unquote("plain"), "plain");
        assert_eq!(unfold("a\r\n  b\n\tc"), "a b c");
        assert_eq!(unquote(r#""open"#), "open");
        assert_eq!(unquote(r#""a\"#), "a");
    }
}
