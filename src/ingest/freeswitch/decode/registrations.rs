//! Registrations: `sofia::register`, `sofia::unregister`, `sofia::expire`, and the list of each profile.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::super::event::{Event, short};
use super::super::question::{self, Question};
use super::{Aor, Output};
use crate::model::{Now, Transport, UnixMillis};
use crate::registry::ReportedContact;

/// Puts the lists of several profiles together.
#[derive(Debug, Default)]
pub(super) struct Registrations {
    round: Option<Round>,
}

#[derive(Debug)]
struct Round {
    asked: Now,
    left: usize,
    found: BTreeMap<Aor, Vec<ReportedContact>>,
}

impl Registrations {
    pub fn on_register(event: &Event, now: Now, out: &mut Vec<Output>) {
        let Some(aor) = who(event) else { return out.push(Output::Dropped("no_user")) };
        let Some(uri) = contact_uri(event.get("contact")) else { return out.push(Output::Dropped("no_contact")) };
        let expires = event.get("expires").parse().ok().filter(|&seconds: &i64| seconds > 0);
        let received = address(event.get("network-ip"), event.get("network-port"));
        let contact = ReportedContact {
            expires_at: expires.map(|seconds| UnixMillis(now.unix.0.saturating_add(seconds.min(DAY_S) * 1000))),
            received,
            user_agent: event.find("user-agent").map(|agent| short(agent, TEXT_MAX).to_owned()),
            call_id: event.find("call-id").map(|id| short(id, TEXT_MAX).to_owned()),
            transport: transport(event.get("status"), &uri),
            path: None,
            rtt_us: None,
            reachable: None,
            uri,
        };
        out.push(Output::Contact(aor, contact));
    }

    /// An unregister and an expiry name the user differently.
    pub fn on_gone(event: &Event, out: &mut Vec<Output>) {
        let Some(aor) = who(event) else { return out.push(Output::Dropped("no_user")) };
        out.push(match contact_uri(event.get("contact")) {
            Some(uri) => Output::ContactGone(aor, uri),
            None => Output::Unregistered(aor),
        });
    }

    pub fn on_profiles(&mut self, answer: &str, asked: Now, out: &mut Vec<Output>) {
        let Some(profiles) = question::profiles(answer) else { return out.push(Output::Dropped("answer")) };
        self.round = (!profiles.is_empty()).then(|| Round { asked, left: profiles.len(), found: BTreeMap::new() });
        out.extend(profiles.into_iter().map(|profile| Output::Ask(Question::Registrations(profile))));
    }

    pub fn on_list(&mut self, answer: &str, now: Now, out: &mut Vec<Output>) {
        let Some(round) = &mut self.round else { return };
        let Some(entries) = question::registrations(answer) else {
            // One profile that can't be read would make its phones look gone.
            self.round = None;
            return out.push(Output::Dropped("answer"));
        };
        round.left = round.left.saturating_sub(1);
        for entry in entries {
            match listed(&entry, now) {
                Some((aor, contact)) if round.found.len() < AORS_MAX => {
                    round.found.entry(aor).or_default().push(contact);
                }
                _ => out.push(Output::Dropped("registration")),
            }
        }
        if round.left == 0
            && let Some(round) = self.round.take()
        {
            out.push(Output::AllContacts(round.found.into_iter().collect(), round.asked));
        }
    }

    pub fn forget_questions(&mut self) {
        self.round = None;
    }
}

/// Whose registration an event is about.
fn who(event: &Event) -> Option<Aor> {
    let user = ["to-user", "from-user", "user", "username"].into_iter().find_map(|name| event.find(name))?;
    let domain = ["to-host", "from-host", "host", "realm"].into_iter().find_map(|name| event.find(name));
    let text = |text: &str| short(text, TEXT_MAX).to_owned();
    Some(Aor { user: text(user), domain: domain.map(text) })
}

/// One entry of `sofia status profile … reg`.
fn listed(entry: &[(&str, &str)], now: Now) -> Option<(Aor, ReportedContact)> {
    let value = |wanted: &str| entry.iter().find(|(name, _)| *name == wanted).map(|(_, value)| *value);
    let text =
        |wanted: &str| value(wanted).filter(|text| !text.is_empty()).map(|text| short(text, TEXT_MAX).to_owned());
    let (user, domain) = value("User")?.rsplit_once('@')?;
    let uri = contact_uri(value("Contact")?)?;
    let status = value("Status").unwrap_or_default();
    let left: Option<i64> = status.split("EXPSECS(").nth(1).and_then(|rest| rest.split(')').next()?.parse().ok());
    // Milliseconds with two decimals; 0.00 where the profile does not ask its phones.
    let rtt_us =
        value("Ping-Time").and_then(|text| text.parse::<f64>().ok()).filter(|ms| (0.001..60_000.0).contains(ms));
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "between 0.001 and 60 000 by the line above"
    )]
    let rtt_us = rtt_us.map(|ms| (ms * 1000.0) as u32);
    let reachable = match value("Ping-Status") {
        Some("Unreachable") => Some(false),
        Some("Reachable") if rtt_us.is_some() => Some(true),
        _ => None,
    };
    let contact = ReportedContact {
        expires_at: left.map(|seconds| UnixMillis(now.unix.0.saturating_add(seconds.clamp(0, DAY_S) * 1000))),
        received: address(value("IP").unwrap_or_default(), value("Port").unwrap_or_default()),
        user_agent: text("Agent"),
        call_id: text("Call-ID"),
        transport: transport(status, &uri),
        path: None,
        rtt_us,
        reachable,
        uri,
    };
    let aor = Aor { user: short(user, TEXT_MAX).to_owned(), domain: Some(short(domain, TEXT_MAX).to_owned()) };
    Some((aor, contact))
}

/// The URI in `"name" <uri>`, without what `FreeSWITCH` added to it for itself.
fn contact_uri(contact: &str) -> Option<String> {
    let uri = match contact.split_once('<') {
        Some((_, rest)) => rest.split_once('>')?.0,
        None => contact.trim(),
    };
    let mut parts = uri.split(';');
    let address = parts.next().filter(|address| address.starts_with("sip"))?;
    let parameters = parts.filter(|parameter| !parameter.starts_with("fs_"));
    let uri = std::iter::once(address).chain(parameters).collect::<Vec<_>>().join(";");
    (uri.len() <= TEXT_MAX).then_some(uri)
}

fn address(ip: &str, port: &str) -> Option<SocketAddr> {
    let ip: IpAddr = ip.trim_matches(['[', ']']).parse().ok()?;
    Some(SocketAddr::new(ip, port.parse().unwrap_or(5060)))
}

/// `Registered(UDP)`, `Registered(TLS-NAT)`, else the contact's own parameter.
fn transport(status: &str, uri: &str) -> Transport {
    let inner = status.split_once('(').map_or("", |(_, rest)| rest);
    let by_status = inner.split([')', '-']).next().unwrap_or_default().to_ascii_lowercase();
    let by_uri = uri.split(";transport=").nth(1).and_then(|rest| rest.split(';').next()).unwrap_or_default();
    let named = |name: &str| match name {
        "udp" => Some(Transport::Udp),
        "tcp" => Some(Transport::Tcp),
        "tls" => Some(Transport::Tls),
        "ws" => Some(Transport::Ws),
        "wss" => Some(Transport::Wss),
        _ => None,
    };
    named(&by_status).or_else(|| named(&by_uri.to_ascii_lowercase())).unwrap_or(Transport::Udp)
}

const TEXT_MAX: usize = 512;
/// No registration is granted for longer than anybody would notice.
const DAY_S: i64 = 30 * 86_400;
const AORS_MAX: usize = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_pbx_added_to_a_contact_is_taken_off() {
        let rows = [
            ("\"\" <sip:201-0x55@127.0.0.1:5181>", Some("sip:201-0x55@127.0.0.1:5181")),
            (
                "\"A\" <sip:201@10.0.0.5:5060;transport=tcp;fs_nat=yes;fs_path=sip%3A201%40203.0.113.9%3A40000>",
                Some("sip:201@10.0.0.5:5060;transport=tcp"),
            ),
            ("sip:201@192.0.2.7", Some("sip:201@192.0.2.7")),
            ("*", None),
            ("", None),
            ("<sip:broken", None),
        ];
        for (contact, uri) in rows {
            assert_eq!(contact_uri(contact).as_deref(), uri, "{contact}");
        }
    }

    #[test]
    fn the_transport_is_the_one_of_the_registration() {
        assert_eq!(transport("Registered(TLS-NAT)(unknown) EXP(x)", "sip:a@b;transport=udp"), Transport::Tls);
        assert_eq!(transport("", "sip:a@b;transport=WSS;ob"), Transport::Wss);
        assert_eq!(transport("", "sip:a@b"), Transport::Udp);
    }
}
