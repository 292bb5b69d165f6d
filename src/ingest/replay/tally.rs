//! SIP messages counted by method and status.

use std::collections::BTreeMap;

use crate::sip::{Message, Method};

/// How many of each.
pub(super) struct Tally {
    pub(super) messages: u64,
    known: [u64; METHODS.len()],
    /// Methods without a name here. A peer may make up any number of them.
    others: BTreeMap<String, u64>,
    statuses: Vec<u64>,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self { messages: 0, known: [0; METHODS.len()], others: BTreeMap::new(), statuses: vec![0; STATUSES] }
    }

    pub(super) fn count(&mut self, message: &Message<'_>) {
        self.messages += 1;
        match (message.method(), message.status()) {
            (Some(Method::Other(name)), _) => {
                let is_new = !self.others.contains_key(name);
                let name = if is_new && self.others.len() >= OTHERS_MAX { "OTHER" } else { name };
                match self.others.get_mut(name) {
                    Some(count) => *count += 1,
                    None => drop(self.others.insert(name.to_owned(), 1)),
                }
            }
            (Some(method), _) => {
                let name = method.known();
                let at = METHODS.iter().position(|known| *known == name);
                if let Some(count) = at.and_then(|at| self.known.get_mut(at)) {
                    *count += 1;
                }
            }
            (None, Some(status)) => {
                if let Some(count) = self.statuses.get_mut(usize::from(status)) {
                    *count += 1;
                }
            }
            (None, None) => {}
        }
    }

    pub(super) fn requests(&self) -> BTreeMap<String, u64> {
        let known = METHODS.iter().zip(self.known).filter(|(_, count)| *count > 0);
        let known = known.map(|(name, count)| ((*name).to_owned(), count));
        known.chain(self.others.iter().map(|(name, count)| (name.clone(), *count))).collect()
    }

    pub(super) fn responses(&self) -> BTreeMap<u16, u64> {
        (0..).zip(&self.statuses).filter(|(_, count)| **count > 0).map(|(status, count)| (status, *count)).collect()
    }
}

/// The commonest first.
const METHODS: [&str; 14] = [
    "INVITE",
    "ACK",
    "BYE",
    "REGISTER",
    "OPTIONS",
    "CANCEL",
    "NOTIFY",
    "SUBSCRIBE",
    "PUBLISH",
    "INFO",
    "PRACK",
    "UPDATE",
    "REFER",
    "MESSAGE",
];
const STATUSES: usize = 700;
const OTHERS_MAX: usize = 64;
