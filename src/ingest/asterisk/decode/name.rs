//! Names as Asterisk writes them: channels, dial strings, queue interfaces.

/// A channel's name taken apart: `PJSIP/101-0000001f` is technology `PJSIP`, endpoint `101`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ChannelName<'a> {
    pub technology: &'a str,
    pub endpoint: &'a str,
}

impl<'a> ChannelName<'a> {
    pub fn parse(name: &'a str) -> Option<Self> {
        let (technology, rest) = name.split_once('/')?;
        let rest = rest.split('<').next().unwrap_or(rest);
        let rest = rest.strip_suffix(";1").or_else(|| rest.strip_suffix(";2")).unwrap_or(rest);
        // Only the serial number is cut off: endpoints may have dashes in their own names.
        let endpoint = match rest.rsplit_once('-') {
            Some((endpoint, serial)) if !endpoint.is_empty() && is_serial(serial) => endpoint,
            _ => rest,
        };
        (!technology.is_empty() && !endpoint.is_empty()).then_some(Self { technology, endpoint })
    }

    /// Whether a person or a trunk is at its far end. Asterisk makes other channels for itself, of which `Local`, which
    /// runs a piece of dial plan, is the usual one.
    pub fn is_leg(self) -> bool {
        !INNER.iter().any(|inner| self.technology.eq_ignore_ascii_case(inner))
    }

    /// Whether `CHANNEL(pjsip,call-id)` tells its Call-ID.
    pub fn is_pjsip(self) -> bool {
        self.technology.eq_ignore_ascii_case("PJSIP")
    }

    pub fn is_chan_sip(self) -> bool {
        self.technology.eq_ignore_ascii_case("SIP")
    }
}

/// The other half of a Local channel: `…;1` has `…;2`.
pub(super) fn other_half(name: &str) -> Option<String> {
    let (stem, other) = match (name.strip_suffix(";1"), name.strip_suffix(";2")) {
        (Some(stem), _) => (stem, "2"),
        (_, Some(stem)) => (stem, "1"),
        _ => return None,
    };
    Some(format!("{stem};{other}"))
}

/// The number in a dial string on its way to a trunk: of `+14155550123@trunk`, `PJSIP/trunk/sip:+14155550123@192.0.2.7`
/// and `SIP/trunk/+14155550123` it is the same. None when it names an endpoint only.
pub(super) fn dialled_number(dial_string: &str) -> Option<&str> {
    let string = dial_string.split(['&', '^']).next().unwrap_or(dial_string);
    let resource = string.rsplit('/').next().unwrap_or(string);
    let user = resource.strip_prefix("sip:").or_else(|| resource.strip_prefix("sips:")).unwrap_or(resource);
    let number = match user.split_once('@') {
        Some((number, _)) => number,
        // Without an `@` a last part is a number only when there is a trunk before it: `SIP/trunk/NUMBER`.
        None if string.matches('/').count() >= 2 || dial_after_group(string) => user,
        None => return None,
    };
    (!number.is_empty()).then_some(number)
}

/// The device a queue calls: `PJSIP/101`, `SIP/101`, `Local/101@from-queue/n`, `hint:101@ext-local`. None for what is no
/// phone, such as `Agent/1001`.
pub(super) fn interface_user(interface: &str) -> Option<&str> {
    if let Some(hint) = interface.strip_prefix("hint:").or_else(|| interface.strip_prefix("Hint:")) {
        return hint.split('@').next().filter(|user| !user.is_empty());
    }
    let (technology, rest) = interface.split_once('/')?;
    let first = rest.split('/').next().unwrap_or(rest);
    let user = match technology {
        _ if technology.eq_ignore_ascii_case("Local") => first.split('@').next()?,
        _ if PHONES.iter().any(|phone| technology.eq_ignore_ascii_case(phone)) => first.split('@').next()?,
        _ => return None,
    };
    (!user.is_empty()).then_some(user)
}

/// `g1/14155550123` or `i1/14155550123`: what DAHDI dials.
fn dial_after_group(string: &str) -> bool {
    string.split_once('/').is_some_and(|(group, number)| {
        let digits = group.trim_start_matches(['g', 'G', 'r', 'R', 'i']);
        digits.len() < group.len()
            && !digits.is_empty()
            && digits.bytes().all(|b| b.is_ascii_digit())
            && number.bytes().all(|b| b.is_ascii_digit() || b"+*#w".contains(&b))
    })
}

fn is_serial(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Technologies of channels with nobody at their far end.
const INNER: [&str; 17] = [
    "Local",
    "AsyncGoto",
    "Surrogate",
    "Bridge",
    "Message",
    "Snoop",
    "UnicastRTP",
    "MulticastRTP",
    "Recorder",
    "Announcer",
    "CBAnn",
    "CBRec",
    "ConfBridgeRecorder",
    "Parked",
    "Substitution",
    "Null",
    "Kill",
];
const PHONES: [&str; 7] = ["PJSIP", "SIP", "IAX2", "SCCP", "Skinny", "DAHDI", "WebRTC"];

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(name: &str) -> Option<(&str, &str)> {
        ChannelName::parse(name).map(|name| (name.technology, name.endpoint))
    }

    #[test]
    fn a_channels_name_names_its_endpoint() {
        assert_eq!(endpoint("PJSIP/101-00000001"), Some(("PJSIP", "101")));
        assert_eq!(endpoint("SIP/my-trunk-0000a1ff"), Some(("SIP", "my-trunk")));
        assert_eq!(endpoint("PJSIP/101-00000001<ZOMBIE>"), Some(("PJSIP", "101")));
        assert_eq!(endpoint("IAX2/office-b-4711"), Some(("IAX2", "office-b")));
        assert_eq!(endpoint("DAHDI/i1/14155550100-2"), Some(("DAHDI", "i1/14155550100")));
        assert_eq!(endpoint("Local/101@from-queue-0000000a;2"), Some(("Local", "101@from-queue")));
        assert_eq!(endpoint("PJSIP/"), None);
        assert_eq!(endpoint("nonsense"), None);
    }

    #[test]
    fn only_channels_with_somebody_at_their_far_end_are_legs() {
        for (name, is_leg) in [
            ("PJSIP/101-1", true),
            ("SIP/101-1", true),
            ("DAHDI/1-1", true),
            ("Local/1@x-1;1", false),
            ("CBAnn/r-1", false),
        ] {
            assert_eq!(ChannelName::parse(name).map(ChannelName::is_leg), Some(is_leg), "{name}");
        }
    }

    #[test]
    fn halves_of_a_local_channel_know_each_other() {
        assert_eq!(other_half("Local/101@x-0a;1").as_deref(), Some("Local/101@x-0a;2"));
        assert_eq!(other_half("Local/101@x-0a;2").as_deref(), Some("Local/101@x-0a;1"));
        assert_eq!(other_half("PJSIP/101-0a"), None);
    }

    #[test]
    fn the_number_in_a_dial_string_is_found_in_every_dialect() {
        for string in [
            "+14155550123@trunk",
            "PJSIP/+14155550123@trunk",
            "PJSIP/trunk/sip:+14155550123@192.0.2.7:5060",
            "trunk/sip:+14155550123@192.0.2.7",
            "SIP/trunk/+14155550123",
            "DAHDI/g1/+14155550123",
            "g1/+14155550123",
        ] {
            assert_eq!(dialled_number(string), Some("+14155550123"), "{string}");
        }
        for endpoint in ["101", "PJSIP/101", "SIP/101", ""] {
            assert_eq!(dialled_number(endpoint), None, "{endpoint}");
        }
    }

    #[test]
    fn a_queue_interface_names_its_phone() {
        for interface in
            ["PJSIP/101", "SIP/101", "Local/101@from-queue/n", "hint:101@ext-local", "Local/101@from-internal"]
        {
            assert_eq!(interface_user(interface), Some("101"), "{interface}");
        }
        for none in ["Agent/1001", "Agent:1001", "101", "PJSIP/", ""] {
            assert_eq!(interface_user(none), None, "{none}");
        }
    }
}
