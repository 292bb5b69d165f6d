//! Pages in browsers, as they name themselves.

use super::read::Section;

/// The pages that may do something here (`Origin` of RFC 6454).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Origins(Vec<String>);

impl Origins {
    /// Whether pages of `origin` may.
    #[must_use]
    pub fn admit(&self, origin: &str) -> bool {
        self.0.iter().any(|known| known == "*" || known.eq_ignore_ascii_case(origin))
    }

    /// Whether no page may.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads a list of them; none when the key is absent.
    pub(super) fn read(section: &mut Section<'_>, key: &str) -> Option<Self> {
        section.list(key, parse).map(Self)
    }
}

/// As browsers write it: a scheme and a host, with a port where it is not the scheme's.
fn parse(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    if text == "*" || host.is_some_and(|host| !host.is_empty() && !host.contains(['/', '?', '#', '@', ' '])) {
        return Ok(text.to_owned());
    }
    Err(format!("{text:?} is no origin; write https://crm.example, without a path, or *"))
}
