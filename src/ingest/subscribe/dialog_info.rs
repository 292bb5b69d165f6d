//! `application/dialog-info+xml` (RFC 4235): the dialogs of one resource.

use super::xml::{Element, Xml, XmlError};

/// A document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DialogInfo {
    /// Whose dialogs: the URI as written.
    pub entity: String,
    /// Rises by one with each document of a subscription, where the notifier does as it should.
    pub version: u64,
    /// These are all dialogs there are; else only those that changed.
    pub full: bool,
    /// The dialogs.
    pub dialogs: Vec<Dialog>,
}

/// One dialog.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dialog {
    /// The notifier's name for it. Some give all dialogs of a resource the same one.
    pub id: String,
    /// Its Call-ID.
    pub call_id: Option<String>,
    /// Who called whom.
    pub direction: Option<Direction>,
    /// Where it stands.
    pub state: State,
    /// How it ended.
    pub event: Option<Event>,
    /// The SIP status it ended with.
    pub code: Option<u16>,
    /// Who the resource is in it.
    pub local: Identity,
    /// The other side.
    pub remote: Identity,
    /// Call-ID of the dialog that it takes over.
    pub replaces: Option<String>,
}

/// One side of a dialog.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// Its URI: the identity, else the target.
    pub uri: Option<String>,
    /// Its display name.
    pub display: Option<String>,
}

/// Who called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The resource did.
    Initiator,
    /// The resource was called.
    Recipient,
}

/// RFC 4235 §3.7.1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// An INVITE was sent or received.
    #[default]
    Trying,
    /// A provisional answer that names no dialog.
    Proceeding,
    /// It rings.
    Early,
    /// It was answered.
    Confirmed,
    /// It is over.
    Terminated,
}

/// Why it is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The caller gave up.
    Cancelled,
    /// It was refused.
    Rejected,
    /// Another dialog took it over.
    Replaced,
    /// Somebody hung up.
    Bye,
    /// Something went wrong.
    Error,
    /// Nobody answered.
    Timeout,
}

impl DialogInfo {
    /// Reads a body. What it does not know is skipped; a body that is not UTF-8 loses the characters that are not.
    ///
    /// # Errors
    /// When it is no dialog-info document, or larger than any.
    pub fn parse(body: &[u8]) -> Result<Self, XmlError> {
        let text = String::from_utf8_lossy(body);
        let (mut xml, root) = Xml::inside(&text, "dialog-info")?;
        let mut info = Self {
            entity: root.attribute("entity")?.unwrap_or_default(),
            version: root.attribute("version")?.and_then(|version| version.parse().ok()).unwrap_or_default(),
            full: root.attribute("state")?.is_none_or(|state| !state.eq_ignore_ascii_case("partial")),
            dialogs: Vec::new(),
        };
        xml.children(|xml, element| {
            if element.name() != "dialog" {
                return xml.skip();
            }
            if info.dialogs.len() >= DIALOGS_MAX {
                return Err(XmlError::TooLarge);
            }
            info.dialogs.push(Dialog::read(xml, element)?);
            Ok(())
        })?;
        xml.finish()?;
        Ok(info)
    }
}

impl Dialog {
    fn read(xml: &mut Xml<'_>, element: &Element<'_>) -> Result<Self, XmlError> {
        let direction = element.attribute("direction")?;
        let mut dialog = Self {
            id: element.attribute("id")?.unwrap_or_default(),
            call_id: element.attribute("call-id")?,
            direction: direction.and_then(|word| Direction::of(&word)),
            ..Self::default()
        };
        xml.children(|xml, child| {
            match child.name() {
                "state" => {
                    dialog.event = child.attribute("event")?.and_then(|word| Event::of(&word));
                    dialog.code = child.attribute("code")?.and_then(|code| code.parse().ok());
                    dialog.state = State::of(&xml.text()?);
                }
                "local" => dialog.local = Identity::read(xml)?,
                "remote" => dialog.remote = Identity::read(xml)?,
                "replaces" => {
                    dialog.replaces = child.attribute("call-id")?;
                    xml.skip()?;
                }
                _ => xml.skip()?,
            }
            Ok(())
        })?;
        Ok(dialog)
    }
}

impl Identity {
    fn read(xml: &mut Xml<'_>) -> Result<Self, XmlError> {
        let mut identity = Self::default();
        let mut target = None;
        xml.children(|xml, child| {
            match child.name() {
                "identity" => {
                    identity.display = child.attribute("display")?;
                    identity.uri = Some(xml.text()?).filter(|uri| !uri.is_empty());
                }
                "target" => {
                    target = child.attribute("uri")?;
                    xml.skip()?;
                }
                _ => xml.skip()?,
            }
            Ok(())
        })?;
        identity.uri = identity.uri.or(target);
        Ok(identity)
    }
}

impl Direction {
    fn of(word: &str) -> Option<Self> {
        match word {
            "initiator" => Some(Self::Initiator),
            "recipient" => Some(Self::Recipient),
            _ => None,
        }
    }
}

impl State {
    /// A word that is none of RFC 4235's says at least that there is a dialog. Kamailio writes one with a capital.
    fn of(word: &str) -> Self {
        match word.to_ascii_lowercase().as_str() {
            "proceeding" => Self::Proceeding,
            "early" => Self::Early,
            "confirmed" => Self::Confirmed,
            "terminated" => Self::Terminated,
            _ => Self::Trying,
        }
    }
}

impl Event {
    fn of(word: &str) -> Option<Self> {
        Some(match word {
            "cancelled" => Self::Cancelled,
            "rejected" => Self::Rejected,
            "replaced" => Self::Replaced,
            "local-bye" | "remote-bye" => Self::Bye,
            "error" => Self::Error,
            "timeout" => Self::Timeout,
            _ => return None,
        })
    }
}

/// Dialogs of one resource at once; a phone has a few lines, a queue's number some dozens.
const DIALOGS_MAX: usize = 256;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The example of RFC 4235 §4.4, grown by what our own code reads.
    const FULL: &str = r#"<?xml version="1.0"?>
        <dialog-info xmlns="urn:ietf:params:xml:ns:dialog-info" version="3" state="full" entity="sip:101@pbx.example">
          <dialog id="as7d900as8" call-id="a84b4c76e66710" local-tag="1928301774" remote-tag="456887766" direction="recipient">
            <state event="rejected" code="486">terminated</state>
            <duration>274</duration>
            <replaces call-id="old" local-tag="1" remote-tag="2"/>
            <local><identity display="Ann">sip:101@pbx.example</identity>
              <target uri="sip:101@192.0.2.7"><param pname="+sip.rendering" pval="no"/></target></local>
            <remote><identity display="Jane &amp; Co">sip:+14155550100@pbx.example</identity></remote>
          </dialog>
          <dialog id="two"><state>early</state><remote><target uri="sip:x@y"/></remote></dialog>
        </dialog-info>"#;

    #[test]
    fn everything_a_notifier_may_say_is_read() {
        let info = DialogInfo::parse(FULL.as_bytes()).unwrap();
        assert_eq!((info.entity.as_str(), info.version, info.full), ("sip:101@pbx.example", 3, true));
        let [first, second] = &info.dialogs[..] else { panic!("{info:#?}") };
        let expected = Dialog {
            id: "as7d900as8".into(),
            call_id: Some("a84b4c76e66710".into()),
            direction: Some(Direction::Recipient),
            state: State::Terminated,
            event: Some(Event::Rejected),
            code: Some(486),
            local: Identity { uri: Some("sip:101@pbx.example".into()), display: Some("Ann".into()) },
            remote: Identity { uri: Some("sip:+14155550100@pbx.example".into()), display: Some("Jane & Co".into()) },
            replaces: Some("old".into()),
        };
        assert_eq!(*first, expected);
        assert_eq!((second.state, second.direction), (State::Early, None));
        assert_eq!(second.remote.uri.as_deref(), Some("sip:x@y"));
    }

    #[test]
    fn what_is_no_dialog_info_is_refused_and_an_empty_one_is_fine() {
        for bad in ["", "x", "<presence/>", "<dialog-info>", "<dialog-info><dialog></dialog-info>", "<dialog-info/><"] {
            assert!(DialogInfo::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        let info = DialogInfo::parse(b"<dialog-info state='partial'/>").unwrap();
        assert_eq!((info.full, info.dialogs.len()), (false, 0));
        let many = format!("<dialog-info>{}</dialog-info>", "<dialog/>".repeat(DIALOGS_MAX + 1));
        assert_eq!(DialogInfo::parse(many.as_bytes()), Err(XmlError::TooLarge));
        let latin = DialogInfo::parse(b"<dialog-info entity='J\xfcrgen'/>").unwrap();
        assert_eq!(latin.entity, "J\u{fffd}rgen");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = DialogInfo::parse(&bytes);
        }

        #[test]
        fn no_change_to_a_document_makes_it_panic(at in 0..FULL.len(), len in 0_usize..40, with in "\\PC{0,12}") {
            let mut bytes = FULL.as_bytes().to_vec();
            let end = (at + len).min(bytes.len());
            bytes.splice(at..end, with.into_bytes());
            let _ = DialogInfo::parse(&bytes);
        }

        #[test]
        fn a_document_cut_short_is_no_document(cut in 0..FULL.trim_end().len()) {
            prop_assert!(DialogInfo::parse(&FULL.as_bytes()[..cut]).is_err());
        }
    }
}
