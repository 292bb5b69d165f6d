//! Header names: known ones as one byte, compact forms folded in, found by length, first and last byte.

macro_rules! names {
    ($($(#[$doc:meta])* $variant:ident = $text:literal $(/ $compact:literal)?),* $(,)?) => {
        /// A header we know by name (RFC 3261 §20 and the extensions we read). Compact forms mean the same header.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum Name {
            $($(#[$doc])* #[doc = concat!("`", $text, "`")] $variant,)*
            /// Any other header; see [`Message::named`](super::Message::named).
            Other,
        }

        const KNOWN: &[(Name, &str)] = &[$((Name::$variant, $text),)* $($((Name::$variant, $compact),)?)*];

        impl Name {
            /// The full name as its RFC writes it; empty for [`Name::Other`].
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(Self::$variant => $text,)*
                    Self::Other => "",
                }
            }
        }
    };
}

names! {
    Accept = "Accept",
    AlertInfo = "Alert-Info",
    Allow = "Allow",
    Authorization = "Authorization",
    CallId = "Call-ID" / "i",
    CallInfo = "Call-Info",
    Contact = "Contact" / "m",
    ContentEncoding = "Content-Encoding" / "e",
    ContentLength = "Content-Length" / "l",
    ContentType = "Content-Type" / "c",
    CSeq = "CSeq",
    Date = "Date",
    Diversion = "Diversion",
    Event = "Event" / "o",
    Expires = "Expires",
    From = "From" / "f",
    HistoryInfo = "History-Info",
    MaxForwards = "Max-Forwards",
    MinExpires = "Min-Expires",
    PAssertedIdentity = "P-Asserted-Identity",
    PPreferredIdentity = "P-Preferred-Identity",
    Path = "Path",
    Privacy = "Privacy",
    ProxyAuthenticate = "Proxy-Authenticate",
    ProxyAuthorization = "Proxy-Authorization",
    ProxyRequire = "Proxy-Require",
    Reason = "Reason",
    RecordRoute = "Record-Route",
    ReferTo = "Refer-To" / "r",
    ReferredBy = "Referred-By" / "b",
    RemotePartyId = "Remote-Party-ID",
    Replaces = "Replaces",
    Require = "Require",
    RetryAfter = "Retry-After",
    Route = "Route",
    Server = "Server",
    ServiceRoute = "Service-Route",
    SessionExpires = "Session-Expires" / "x",
    SessionId = "Session-ID",
    Subject = "Subject" / "s",
    SubscriptionState = "Subscription-State",
    Supported = "Supported" / "k",
    To = "To" / "t",
    Unsupported = "Unsupported",
    UserAgent = "User-Agent",
    Via = "Via" / "v",
    Warning = "Warning",
    WwwAuthenticate = "WWW-Authenticate",
}

impl Name {
    /// The header that `name` (any case, full or compact) names.
    #[must_use]
    pub fn of(name: &[u8]) -> Self {
        let (Some(first), Some(last)) = (name.first(), name.last()) else { return Self::Other };
        let slot = SLOTS[hash(name.len(), *first, *last)];
        match KNOWN.get(usize::from(slot)) {
            // Nearly everybody writes them as the RFCs do, and comparing that is much faster.
            Some((known, text)) if name == text.as_bytes() || name.eq_ignore_ascii_case(text.as_bytes()) => *known,
            _ => Self::Other,
        }
    }

    /// How many there are.
    pub(super) const COUNT: usize = Self::Other as usize + 1;

    /// This header's bit in a set of names.
    pub(super) const fn bit(self) -> u64 {
        1 << (self as u8)
    }
}

const SLOT_COUNT: usize = 1024;
const EMPTY: u8 = u8::MAX;

/// Perfect for the names above: [`slots`] does not compile when two of them meet.
const fn hash(length: usize, first: u8, last: u8) -> usize {
    (length * 37 + ((first | 0x20) as usize) * 5 + ((last | 0x20) as usize) * 131) % SLOT_COUNT
}

const fn slots() -> [u8; SLOT_COUNT] {
    assert!(KNOWN.len() < EMPTY as usize && (Name::Other as u8) < 64, "too many names for a byte and a bit set");
    let mut slots = [EMPTY; SLOT_COUNT];
    let mut index = 0_u8;
    while (index as usize) < KNOWN.len() {
        let name = KNOWN[index as usize].1.as_bytes();
        let slot = hash(name.len(), name[0], name[name.len() - 1]);
        assert!(slots[slot] == EMPTY, "two header names meet in one slot: change the factors in hash()");
        slots[slot] = index;
        index += 1;
    }
    slots
}

static SLOTS: [u8; SLOT_COUNT] = slots();

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_known_name_is_found_in_any_case_and_no_other_is() {
        for (name, text) in KNOWN {
            assert_eq!(Name::of(text.as_bytes()), *name);
            assert_eq!(Name::of(text.to_ascii_uppercase().as_bytes()), *name);
            assert_eq!(Name::of(text.to_ascii_lowercase().as_bytes()), *name);
            assert_eq!(Name::of(format!("X-{text}").as_bytes()), Name::Other);
        }
        assert_eq!(Name::of(b""), Name::Other);
        assert_eq!(Name::of(b"Vix"), Name::Other);
    }
}
