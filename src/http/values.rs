//! Values that people type: tidied, or refused with the JSON pointer of the member they came in.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};

use super::problem::{Problem, Result};
use crate::model::{Network, canonical_host};

/// A name: one line of 1 to 200 characters, outer spaces dropped.
///
/// # Errors
/// 422 at `pointer`.
pub fn name(pointer: &str, text: &str) -> Result<String> {
    line(pointer, text)?.ok_or_else(|| Problem::invalid(pointer, "it must not be empty"))
}

/// A remark: one line of at most 200 characters, outer spaces dropped; an empty one is none.
///
/// # Errors
/// 422 at `pointer`.
pub fn remark(pointer: &str, text: Option<&str>) -> Result<Option<String>> {
    text.map_or(Ok(None), |text| line(pointer, text))
}

/// Something a phone can dial: 1 to 64 letters, digits and `*#+._-`; an empty one is none.
///
/// # Errors
/// 422 at `pointer`.
pub fn dialled(pointer: &str, text: Option<&str>) -> Result<Option<String>> {
    let Some(text) = remark(pointer, text)? else { return Ok(None) };
    let dialable = text.chars().all(|c| c.is_ascii_alphanumeric() || "*#+._-".contains(c));
    if dialable && text.len() <= DIALLED_MAX {
        Ok(Some(text))
    } else {
        Err(Problem::invalid(pointer, "a number has 1 to 64 letters, digits and *#+._-"))
    }
}

/// An email address, as far as its shape tells; an empty one is none.
///
/// # Errors
/// 422 at `pointer`.
pub fn email(pointer: &str, text: Option<&str>) -> Result<Option<String>> {
    let Some(text) = remark(pointer, text)? else { return Ok(None) };
    let plain = !text.chars().any(|c| c.is_whitespace() || c.is_control() || "<>(),;:\"".contains(c));
    let shaped = text.rsplit_once('@').is_some_and(|(local, domain)| {
        !local.is_empty() && local.len() <= 64 && !local.contains('@') && is_host_name(domain)
    });
    if plain && shaped { Ok(Some(text)) } else { Err(Problem::invalid(pointer, "that is not an email address")) }
}

/// A SIP domain: a host name or an address, in canonical form.
///
/// # Errors
/// 422 at `pointer`.
pub fn domain(pointer: &str, text: &str) -> Result<String> {
    let host = canonical_host(text.trim()).into_owned();
    let bracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    if let Some(address) = bracketed.or(Some(&host)).and_then(|host| host.parse::<Ipv6Addr>().ok()) {
        return Ok(format!("[{address}]"));
    }
    if host.parse::<IpAddr>().is_ok() || is_host_name(&host) {
        Ok(host)
    } else {
        Err(Problem::invalid(pointer, "that is neither a host name nor an address"))
    }
}

/// SIP domains, each once, in the order they came.
///
/// # Errors
/// 422 at the first bad one.
pub fn domains(pointer: &str, texts: &[String]) -> Result<Vec<String>> {
    list(pointer, texts)?;
    let mut seen = BTreeSet::new();
    let mut out = Vec::with_capacity(texts.len());
    for (index, text) in texts.iter().enumerate() {
        let domain = domain(&format!("{pointer}/{index}"), text)?;
        if seen.insert(domain.clone()) {
            out.push(domain);
        }
    }
    Ok(out)
}

/// Addresses and networks in canonical form.
///
/// # Errors
/// 422 at the first bad one.
pub fn networks(pointer: &str, texts: &[String]) -> Result<Vec<String>> {
    list(pointer, texts)?;
    let read = |(index, text): (usize, &String)| {
        let network = text.trim().parse::<Network>();
        network
            .map(|network| network.to_string())
            .map_err(|error| Problem::invalid(format!("{pointer}/{index}"), error.to_string()))
    };
    texts.iter().enumerate().map(read).collect()
}

/// Refuses lists longer than [`LIST_MAX`].
///
/// # Errors
/// 422 at `pointer`.
pub fn list<T>(pointer: &str, items: &[T]) -> Result<()> {
    if items.len() <= LIST_MAX {
        Ok(())
    } else {
        Err(Problem::invalid(pointer, format!("a list has at most {LIST_MAX} entries here")))
    }
}

/// Refuses `value` outside `range`.
///
/// # Errors
/// 422 at `pointer`.
pub fn within(pointer: &str, value: u32, range: std::ops::RangeInclusive<u32>) -> Result<()> {
    if range.contains(&value) {
        Ok(())
    } else {
        Err(Problem::invalid(pointer, format!("it is {} to {}", range.start(), range.end())))
    }
}

fn line(pointer: &str, text: &str) -> Result<Option<String>> {
    let text = text.trim();
    if text.chars().any(char::is_control) {
        return Err(Problem::invalid(pointer, "it must be one line without control characters"));
    }
    if text.chars().count() > LINE_MAX {
        return Err(Problem::invalid(pointer, format!("it has at most {LINE_MAX} characters")));
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

/// RFC 1123 §2.1, and the underscore that real networks have.
fn is_host_name(host: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    host.len() <= 253 && host.split('.').all(label)
}

const LINE_MAX: usize = 200;
const DIALLED_MAX: usize = 64;

/// The longest list a record may hold.
pub const LIST_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_tidy_line() {
        assert_eq!(name("/name", "  Reception \n").unwrap(), "Reception");
        for bad in ["", "   ", "a\nb", "a\0b", &"x".repeat(201)] {
            assert!(name("/name", bad).is_err(), "{bad:?}");
        }
        assert_eq!(remark("/label", Some("  ")).unwrap(), None);
        assert_eq!(remark("/label", None).unwrap(), None);
    }

    #[test]
    fn numbers_are_what_a_phone_can_dial() {
        for good in ["204", "*97", "+14155550100", "sales-1", "front.desk"] {
            assert_eq!(dialled("/extension", Some(good)).unwrap().as_deref(), Some(good));
        }
        for bad in ["2 04", "sip:204", "204@x", "\u{662}"] {
            assert!(dialled("/extension", Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_have_one_at_and_a_host_behind_it() {
        for good in ["ann@office.example", "a.b+c@office.example"] {
            assert_eq!(email("/email", Some(good)).unwrap().as_deref(), Some(good));
        }
        for bad in
            ["ann", "@office.example", "ann@", "a@b@c", "ann@off ice", "Ann <ann@office.example>", "a,b@c.example"]
        {
            assert!(email("/email", Some(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn domains_are_canonical_hosts() {
        assert_eq!(domain("/domain", "PBX.Example.").unwrap(), "pbx.example");
        assert_eq!(domain("/domain", "192.0.2.10").unwrap(), "192.0.2.10");
        assert_eq!(domain("/domain", "[2001:DB8::1]").unwrap(), "[2001:db8::1]");
        assert_eq!(domain("/domain", "2001:db8:0::1").unwrap(), "[2001:db8::1]");
        for bad in ["", "a b", "sip:pbx.example", "pbx.example:5060", "-a.example", "a..b", "[::1"] {
            assert!(domain("/domain", bad).is_err(), "{bad}");
        }
        let twice = ["a.example".to_owned(), "A.example".to_owned()];
        assert_eq!(domains("/aliases", &twice).unwrap(), ["a.example"]);
    }

    #[test]
    fn networks_are_read_with_the_index_of_a_bad_one() {
        assert_eq!(networks("/networks", &["192.0.2.77/24".into()]).unwrap(), ["192.0.2.0/24"]);
        assert!(networks("/networks", &["192.0.2.1".into(), "office".into()]).is_err());
    }
}
