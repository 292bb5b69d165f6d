//! A binding as the registry keeps it: the same facts as a [`Binding`] in half the memory, for there may be a million.

use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::sync::Arc;

use crate::model::{Binding, BindingSource, Tick, Transport, UnixMillis};
use crate::store::contacts::Contact;

/// One binding, its texts in one allocation.
#[derive(Debug)]
pub(super) struct Bound {
    /// Contact, Call-ID, path and instance, one after the other.
    texts: Box<str>,
    /// Where in `texts` the contact, the Call-ID and the path end.
    ends: [u32; 3],
    pub(super) user_agent: Option<Arc<str>>,
    pub(super) expires_at: Tick,
    pub(super) refreshed_at: UnixMillis,
    received: Received,
    cseq: u32,
    reg_id: u32,
    q: u16,
    transport: Transport,
    pub(super) source: BindingSource,
    /// Which of path, instance and `reg_id` are there at all, and whether a connector lists it.
    present: u8,
}

/// Nearly all addresses are IPv4; the others pay for themselves.
#[derive(Debug)]
enum Received {
    Unknown,
    V4(SocketAddrV4),
    V6(Box<SocketAddrV6>),
}

impl Bound {
    pub(super) fn new(binding: &Binding) -> Self {
        let path = binding.path.as_deref().unwrap_or_default();
        let instance = binding.instance.as_deref().unwrap_or_default();
        let texts = [&*binding.contact, &*binding.call_id, path, instance];
        let ends = [1, 2, 3].map(|count| {
            let length: usize = texts[..count].iter().map(|text| text.len()).sum();
            // A SIP message is far shorter than this; a text that were not would be cut, never read past its end.
            u32::try_from(length).unwrap_or(u32::MAX)
        });
        let present = u8::from(binding.path.is_some()) * PATH
            + u8::from(binding.instance.is_some()) * INSTANCE
            + u8::from(binding.reg_id.is_some()) * REG_ID;
        Self {
            texts: texts.concat().into(),
            ends,
            user_agent: binding.user_agent.clone(),
            expires_at: binding.expires_at,
            refreshed_at: binding.refreshed_at,
            received: match binding.received {
                None => Received::Unknown,
                Some(SocketAddr::V4(address)) => Received::V4(address),
                Some(SocketAddr::V6(address)) => Received::V6(Box::new(address)),
            },
            cseq: binding.cseq,
            reg_id: binding.reg_id.unwrap_or_default(),
            q: binding.q,
            transport: binding.transport,
            source: binding.source,
            present,
        }
    }

    pub(super) fn to_binding(&self) -> Binding {
        Binding {
            contact: self.contact().into(),
            expires_at: self.expires_at,
            q: self.q,
            transport: self.transport,
            source: self.source,
            cseq: self.cseq,
            call_id: self.text(0).into(),
            received: self.received(),
            user_agent: self.user_agent.clone(),
            path: self.path().map(Into::into),
            instance: self.instance().map(Into::into),
            reg_id: self.has(REG_ID).then_some(self.reg_id),
            refreshed_at: self.refreshed_at,
        }
    }

    /// As the database takes it.
    pub(super) fn to_contact(&self, expires_at: UnixMillis) -> Contact<'_> {
        Contact {
            uri: self.contact().into(),
            expires_at: expires_at.0,
            q: self.q,
            transport: self.transport,
            source: self.source,
            cseq: self.cseq,
            call_id: self.text(0).into(),
            received: self.received(),
            user_agent: self.user_agent.as_deref().map(Into::into),
            path: self.path().map(Into::into),
            instance: self.instance().map(Into::into),
            reg_id: self.has(REG_ID).then_some(self.reg_id),
            refreshed_at: self.refreshed_at.0,
        }
    }

    /// Whether a connector of the PBX lists it. Not stored: after a start it lists them anew.
    pub(super) fn is_listed(&self) -> bool {
        self.has(LISTED)
    }

    /// Notes whether a connector of the PBX lists it.
    pub(super) fn list(&mut self, listed: bool) {
        self.present = if listed { self.present | LISTED } else { self.present & !LISTED };
    }

    /// The contact URI.
    pub(super) fn contact(&self) -> &str {
        self.texts.get(..self.ends[0] as usize).unwrap_or_default()
    }

    pub(super) fn received(&self) -> Option<SocketAddr> {
        match &self.received {
            Received::Unknown => None,
            Received::V4(address) => Some(SocketAddr::V4(*address)),
            Received::V6(address) => Some(SocketAddr::V6(**address)),
        }
    }

    fn path(&self) -> Option<&str> {
        self.has(PATH).then(|| self.text(1))
    }

    fn instance(&self) -> Option<&str> {
        let start = self.ends[2] as usize;
        self.has(INSTANCE).then(|| self.texts.get(start..).unwrap_or_default())
    }

    /// What lies between the ends `after` and the next.
    fn text(&self, after: usize) -> &str {
        let (start, end) = (self.ends[after] as usize, self.ends[after + 1] as usize);
        self.texts.get(start..end).unwrap_or_default()
    }

    fn has(&self, what: u8) -> bool {
        self.present & what != 0
    }
}

const PATH: u8 = 1;
const INSTANCE: u8 = 2;
const REG_ID: u8 = 4;
const LISTED: u8 = 8;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn binding()(
            contact in ".{0,40}", call_id in ".{0,40}", path in prop::option::of(".{0,20}"),
            instance in prop::option::of(".{0,20}"), user_agent in prop::option::of(".{0,20}"),
            received in prop::option::of(any::<SocketAddr>()), reg_id in any::<Option<u32>>(), cseq in any::<u32>(),
            q in 0_u16..=1000, passive in any::<bool>(), expires in any::<u32>(),
        ) -> Binding {
            Binding {
                contact: contact.into(),
                expires_at: Tick(expires.into()),
                q,
                transport: if passive { Transport::Wss } else { Transport::Udp },
                source: if passive { BindingSource::Passive } else { BindingSource::Registrar },
                cseq,
                call_id: call_id.into(),
                received,
                user_agent: user_agent.map(Into::into),
                path: path.map(Into::into),
                instance: instance.map(Into::into),
                reg_id,
                refreshed_at: UnixMillis(i64::from(expires) - 5),
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_was_given(binding in binding()) {
            let bound = Bound::new(&binding);
            prop_assert_eq!(bound.contact(), &*binding.contact);
            prop_assert_eq!(bound.received(), binding.received);
            prop_assert_eq!(bound.to_binding(), binding.clone());
            let contact = bound.to_contact(UnixMillis(7));
            prop_assert_eq!((&*contact.uri, contact.expires_at), (&*binding.contact, 7));
            prop_assert_eq!(contact.path.as_deref(), binding.path.as_deref());
        }
    }

    #[test]
    fn a_binding_stays_small() {
        assert!(size_of::<Bound>() <= 96, "{}", size_of::<Bound>());
    }
}
