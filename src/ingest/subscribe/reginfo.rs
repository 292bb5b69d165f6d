//! `application/reginfo+xml` (RFC 3680): the contacts of addresses-of-record.

use super::xml::{Element, Xml, XmlError};

/// A document.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegInfo {
    /// These are all contacts of its addresses-of-record; else only those that changed.
    pub full: bool,
    /// The addresses-of-record.
    pub registrations: Vec<Registration>,
}

/// One address-of-record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Registration {
    /// Its URI as written.
    pub aor: String,
    /// It has contacts at all.
    pub active: bool,
    /// Its contacts, those that are gone included.
    pub contacts: Vec<RegContact>,
}

/// One contact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RegContact {
    /// Its URI as written.
    pub uri: String,
    /// It is bound; else it was a moment ago.
    pub active: bool,
    /// Seconds it has left.
    pub expires_s: Option<u64>,
    /// Call-ID of its REGISTER.
    pub call_id: Option<String>,
    /// The address it was registered from, as a URI; Kamailio adds it.
    pub received: Option<String>,
    /// Its Path, which Kamailio adds as well.
    pub path: Option<String>,
    /// Its User-Agent, likewise.
    pub user_agent: Option<String>,
}

impl RegInfo {
    /// Reads a body. What it does not know is skipped; a body that is not UTF-8 loses the characters that are not.
    ///
    /// # Errors
    /// When it is no reginfo document, or larger than any.
    pub fn parse(body: &[u8]) -> Result<Self, XmlError> {
        let text = String::from_utf8_lossy(body);
        let (mut xml, root) = Xml::inside(&text, "reginfo")?;
        let partial = root.attribute("state")?.is_some_and(|state| state.eq_ignore_ascii_case("partial"));
        let mut info = Self { full: !partial, registrations: Vec::new() };
        xml.children(|xml, element| match element.name() {
            "registration" => Registration::read(xml, element).map(|found| info.registrations.push(found)),
            _ => xml.skip(),
        })?;
        xml.finish()?;
        Ok(info)
    }
}

impl Registration {
    fn read(xml: &mut Xml<'_>, element: &Element<'_>) -> Result<Self, XmlError> {
        let mut registration = Self {
            aor: element.attribute("aor")?.unwrap_or_default(),
            active: element.attribute("state")?.as_deref() == Some("active"),
            contacts: Vec::new(),
        };
        xml.children(|xml, child| match child.name() {
            "contact" => RegContact::read(xml, child).map(|contact| registration.contacts.push(contact)),
            _ => xml.skip(),
        })?;
        Ok(registration)
    }
}

impl RegContact {
    fn read(xml: &mut Xml<'_>, element: &Element<'_>) -> Result<Self, XmlError> {
        let mut contact = Self {
            uri: String::new(),
            active: element.attribute("state")?.as_deref() == Some("active"),
            expires_s: element.attribute("expires")?.and_then(|seconds| seconds.parse().ok()),
            call_id: element.attribute("callid")?,
            received: element.attribute("received")?,
            path: element.attribute("path")?,
            user_agent: element.attribute("user_agent")?,
        };
        xml.children(|xml, child| match child.name() {
            "uri" => xml.text().map(|uri| contact.uri = uri),
            _ => xml.skip(),
        })?;
        Ok(contact)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FULL: &str = r#"<?xml version="1.0"?>
        <reginfo xmlns="urn:ietf:params:xml:ns:reginfo" version="0" state="full">
          <registration aor="sip:101@pbx.example" id="a7" state="active">
            <contact id="76" state="active" event="registered" duration-registered="7322" expires="3600" q="0.8"
                callid="c1" cseq="4" received="sip:198.51.100.7:40001" user_agent="phone &quot;1&quot;">
              <uri>sip:101@192.0.2.7:5062;transport=tcp</uri><unknown-param name="+sip.instance">x</unknown-param>
            </contact>
            <contact id="77" state="terminated" event="expired"><uri>sip:101@192.0.2.8</uri></contact>
          </registration>
          <registration aor="sip:102@pbx.example" id="a8" state="terminated"/>
        </reginfo>"#;

    #[test]
    fn everything_a_notifier_may_say_is_read() {
        let info = RegInfo::parse(FULL.as_bytes()).unwrap();
        assert!(info.full);
        let [first, second] = &info.registrations[..] else { panic!("{info:#?}") };
        assert_eq!((first.aor.as_str(), first.active), ("sip:101@pbx.example", true));
        assert_eq!((second.active, second.contacts.len()), (false, 0));
        let bound = RegContact {
            uri: "sip:101@192.0.2.7:5062;transport=tcp".into(),
            active: true,
            expires_s: Some(3600),
            call_id: Some("c1".into()),
            received: Some("sip:198.51.100.7:40001".into()),
            path: None,
            user_agent: Some("phone \"1\"".into()),
        };
        let gone = RegContact { uri: "sip:101@192.0.2.8".into(), ..RegContact::default() };
        assert_eq!(first.contacts, [bound, gone]);
    }

    #[test]
    fn what_kamailio_sends_is_read() {
        let text = include_str!("../../../fixtures/notify/kamailio-101-registered.xml");
        let contact = &RegInfo::parse(text.as_bytes()).unwrap().registrations[0].contacts[0];
        assert!(contact.active && contact.uri.starts_with("sip:101-"), "{contact:?}");
        assert_eq!((contact.expires_s, &contact.received, &contact.path), (Some(60), &None, &None));
        assert!(contact.user_agent.as_deref().unwrap_or_default().starts_with("baresip"));
    }

    #[test]
    fn what_is_no_reginfo_is_refused() {
        for bad in ["", "<dialog-info/>", "<reginfo>", "<reginfo><registration></reginfo>"] {
            assert!(RegInfo::parse(bad.as_bytes()).is_err(), "{bad}");
        }
        assert_eq!(RegInfo::parse(b"<reginfo state='partial'/>"), Ok(RegInfo::default()));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(500) })]

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = RegInfo::parse(&bytes);
        }

        #[test]
        fn no_change_to_a_document_makes_it_panic(at in 0..FULL.len(), len in 0_usize..40, with in "\\PC{0,12}") {
            let mut bytes = FULL.as_bytes().to_vec();
            let end = (at + len).min(bytes.len());
            bytes.splice(at..end, with.into_bytes());
            let _ = RegInfo::parse(&bytes);
        }
    }
}
