//! How the bindings of one device are written down: one JSON array, so that a REGISTER costs one row.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use crate::model::{Binding, BindingSource, Now, Transport, UnixMillis};

/// Writes bindings, deadlines turned into wall time.
#[must_use]
pub fn encode(bindings: &[Binding], now: Now) -> String {
    let contacts: Vec<Contact<'_>> = bindings.iter().map(|binding| Contact::of(binding, now)).collect();
    // Numbers, strings and options only: nothing here can fail to serialise.
    serde_json::to_string(&contacts).unwrap_or_default()
}

/// Reads what [`encode`] wrote, perhaps in another run of the process.
///
/// # Errors
/// When the text is not such an array.
pub fn decode(text: &str, now: Now) -> Result<Vec<Binding>, serde_json::Error> {
    let contacts: Vec<Contact<'_>> = serde_json::from_str(text)?;
    Ok(contacts.into_iter().map(|contact| contact.into_binding(now)).collect())
}

/// One contact on disk. New fields need a default; unknown ones are skipped, so that an older version can read on.
#[derive(Serialize, Deserialize)]
struct Contact<'a> {
    #[serde(rename = "contact")]
    uri: Text<'a>,
    expires_at: i64,
    #[serde(default = "full_preference", skip_serializing_if = "is_full_preference")]
    q: u16,
    transport: Transport,
    source: BindingSource,
    cseq: u32,
    call_id: Text<'a>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    received: Option<SocketAddr>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    user_agent: Option<Text<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<Text<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    instance: Option<Text<'a>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reg_id: Option<u32>,
    refreshed_at: i64,
}

type Text<'a> = std::borrow::Cow<'a, str>;

impl<'a> Contact<'a> {
    fn of(binding: &'a Binding, now: Now) -> Self {
        Self {
            uri: Text::Borrowed(&binding.contact),
            expires_at: now.to_unix(binding.expires_at).0,
            q: binding.q,
            transport: binding.transport,
            source: binding.source,
            cseq: binding.cseq,
            call_id: Text::Borrowed(&binding.call_id),
            received: binding.received,
            user_agent: binding.user_agent.as_deref().map(Text::Borrowed),
            path: binding.path.as_deref().map(Text::Borrowed),
            instance: binding.instance.as_deref().map(Text::Borrowed),
            reg_id: binding.reg_id,
            refreshed_at: binding.refreshed_at.0,
        }
    }

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

/// q=1.0, what a contact without `q` means to most.
const FULL_PREFERENCE: u16 = 1000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Clock;

    #[test]
    fn bindings_come_back_as_they_were_in_another_run() {
        let binding = Binding {
            contact: "sip:101@192.0.2.7:5062;line=\"x\\y\"".into(),
            expires_at: crate::model::Tick(0),
            q: 500,
            transport: Transport::Tcp,
            source: BindingSource::Passive,
            cseq: 4_294_967_295,
            call_id: "a\"b@c".into(),
            received: "[2001:db8::1]:40000".parse().ok(),
            user_agent: Some("Fictional Phone/1.0 \u{fc}".into()),
            path: Some("<sip:edge.example;lr>".into()),
            instance: Some("urn:uuid:00000000-0000-1000-8000-000a95a0e128".into()),
            reg_id: Some(1),
            refreshed_at: UnixMillis(1_700_000_000_000),
        };
        let (then, later) =
            (Clock::manual(UnixMillis(1_700_000_000_000)).now(), Clock::manual(UnixMillis(1_700_000_060_000)).now());
        let binding = Binding { expires_at: then.tick + 3_600_000, ..binding };
        let read = decode(&encode(std::slice::from_ref(&binding), then), later).unwrap();
        assert_eq!(read, [Binding { expires_at: later.tick + 3_540_000, ..binding }]);
    }

    #[test]
    fn a_contact_of_another_version_is_read_as_far_as_it_is_known() {
        let text = r#"[{"contact":"sip:a@b","expires_at":5,"transport":"udp","source":"registrar","cseq":1,"call_id":"c","refreshed_at":1,"of_tomorrow":[1]}]"#;
        let read = decode(text, Clock::manual(UnixMillis(0)).now()).unwrap();
        assert_eq!((&*read[0].contact, read[0].q), ("sip:a@b", 1000));
        assert!(decode("[{}]", Clock::manual(UnixMillis(0)).now()).is_err());
    }
}
