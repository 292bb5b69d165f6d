//! How the bindings of one device are written down: one JSON array, with short names and without what is usual, for it is
//! written with every refresh.

use std::borrow::Cow;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::model::{Binding, BindingSource, Now, Transport, UnixMillis};

/// Appends them to `text`.
pub fn encode<'a>(contacts: impl IntoIterator<Item = Contact<'a>>, text: &mut Vec<u8>) {
    let mut before = b'[';
    for contact in contacts {
        text.push(before);
        before = b',';
        // Numbers, strings and options only: nothing here can fail to serialise.
        let _ = serde_json::to_writer(&mut *text, &contact);
    }
    if before == b'[' {
        text.push(before);
    }
    text.push(b']');
}

/// Reads what [`encode`] wrote, perhaps in another run of the process.
///
/// # Errors
/// When the text is not such an array.
pub fn decode(text: &str, now: Now) -> Result<Vec<Binding>, serde_json::Error> {
    let contacts: Vec<Contact<'_>> = serde_json::from_str(text)?;
    Ok(contacts.into_iter().map(|contact| contact.into_binding(now)).collect())
}

/// One contact on disk; see [`Binding`] for its fields. New ones need a default; unknown ones are skipped, so that an
/// older version can read on. The longer names are those of earlier versions.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Contact<'a> {
    /// The contact URI.
    #[serde(borrow, alias = "contact")]
    pub uri: Cow<'a, str>,
    /// When it ends, in milliseconds since 1970.
    #[serde(rename = "ends", alias = "expires_at")]
    pub expires_at: i64,
    /// Preference in thousandths.
    #[serde(default = "full_preference", skip_serializing_if = "is_full_preference")]
    pub q: u16,
    /// How it was heard.
    #[serde(default, skip_serializing_if = "is_udp")]
    pub transport: Transport,
    /// Who vouches for it.
    #[serde(default = "ourselves", skip_serializing_if = "is_ours")]
    pub source: BindingSource,
    /// `CSeq` number of its REGISTER.
    pub cseq: u32,
    /// Call-ID of its REGISTER.
    #[serde(borrow, rename = "call", alias = "call_id")]
    pub call_id: Cow<'a, str>,
    /// Where its REGISTER came from.
    #[serde(default, rename = "from", alias = "received", skip_serializing_if = "Option::is_none")]
    pub received: Option<SocketAddr>,
    /// User-Agent.
    #[serde(borrow, default, rename = "agent", alias = "user_agent", skip_serializing_if = "Option::is_none")]
    pub user_agent: Option<Cow<'a, str>>,
    /// Path header values.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Cow<'a, str>>,
    /// `+sip.instance`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<Cow<'a, str>>,
    /// `reg-id`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reg_id: Option<u32>,
    /// When it was last refreshed, in milliseconds since 1970.
    #[serde(rename = "at", alias = "refreshed_at")]
    pub refreshed_at: i64,
}

impl Contact<'_> {
    fn into_binding(self, now: Now) -> Binding {
        Binding {
            contact: self.uri.into(),
            expires_at: now.to_tick(UnixMillis(self.expires_at)),
            q: self.q,
            transport: self.transport,
            source: self.source,
            cseq: self.cseq,
            call_id: self.call_id.into(),
            received: self.received,
            user_agent: self.user_agent.map(|agent| agent.as_ref().into()),
            path: self.path.map(Into::into),
            instance: self.instance.map(Into::into),
            reg_id: self.reg_id,
            refreshed_at: UnixMillis(self.refreshed_at),
        }
    }
}

fn full_preference() -> u16 {
    FULL_PREFERENCE
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_full_preference(q: &u16) -> bool {
    *q == FULL_PREFERENCE
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_udp(transport: &Transport) -> bool {
    *transport == Transport::Udp
}

fn ourselves() -> BindingSource {
    BindingSource::Registrar
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_ours(source: &BindingSource) -> bool {
    *source == BindingSource::Registrar
}

/// q=1.0, what a contact without `q` means to most.
const FULL_PREFERENCE: u16 = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn contacts_come_back_as_they_were_in_another_run() {
        let (then, later) = (UnixMillis(1_700_000_000_000), Clock::manual(UnixMillis(1_700_000_060_000)).now());
        let contact = Contact {
            uri: "sip:101@192.0.2.7:5062;line=\"x\\y\"".into(),
            expires_at: then.0 + 3_600_000,
            q: 500,
            transport: Transport::Tcp,
            source: BindingSource::Passive,
            cseq: u32::MAX,
            call_id: "a\"b@c".into(),
            received: "[2001:db8::1]:40000".parse().ok(),
            user_agent: Some("Fictional Phone/1.0 \u{fc}".into()),
            path: Some("<sip:edge.example;lr>".into()),
            instance: Some("urn:uuid:00000000-0000-1000-8000-000a95a0e128".into()),
            reg_id: Some(1),
            refreshed_at: then.0,
        };
        let usual = Contact { transport: Transport::Udp, source: BindingSource::Registrar, ..contact.clone() };
        let mut text = Vec::new();
        encode([contact.clone(), usual.clone()], &mut text);
        let read = decode(&String::from_utf8(text).unwrap(), later).unwrap();
        assert_eq!(read[0].expires_at, later.tick + 3_540_000);
        assert_eq!(read, [contact.into_binding(later), usual.into_binding(later)]);
        let mut none = Vec::new();
        encode([], &mut none);
        assert_eq!(none, b"[]");
    }

    #[test]
    fn a_contact_of_another_version_is_read_as_far_as_it_is_known() {
        let text = r#"[{"contact":"sip:a@b","expires_at":5,"transport":"udp","source":"registrar","cseq":1,"call_id":"c","refreshed_at":1,"of_tomorrow":[1]}]"#;
        let read = decode(text, Clock::manual(UnixMillis(0)).now()).unwrap();
        assert_eq!((&*read[0].contact, read[0].q), ("sip:a@b", 1000));
        assert!(decode("[{}]", Clock::manual(UnixMillis(0)).now()).is_err());
    }
}
