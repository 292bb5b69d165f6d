//! Looking at everything anew: which lists are asked for, and how they are put beside what is known.

use std::collections::HashSet;

use super::super::action::Action;
use super::super::message::Message;
use super::ask::{SNAPSHOT, is_permission};
use super::channel::{Channel, Listed, Told, Way};
use super::legs::{RING, UP};
use super::{Decoder, Output};
use crate::model::{LegKey, Now};

/// A look at everything that is under way.
#[derive(Debug, Default)]
pub(super) struct Snapshot {
    /// Channels the list did not have. Events on their end may be on their way, so nobody is told before the PBX has
    /// answered a question that was asked after the list.
    missing: HashSet<Box<str>>,
    /// The list of channels has come.
    listed: bool,
}

impl Decoder {
    /// Asks for everything. The answers come in as messages; [`Output::Settled`] is last.
    pub fn snapshot(&mut self, out: &mut Vec<Output>) {
        self.connected();
        for (step, name) in STEPS {
            out.push(Output::ask(format!("{SNAPSHOT}{step}"), Action::new(name)));
        }
    }

    pub(super) fn on_snapshot_response(&mut self, step: &str, message: &Message, refused: bool, out: &mut Vec<Output>) {
        let Some((step, name)) = STEPS.into_iter().find(|(known, _)| *known == step) else { return };
        if step == LAST {
            self.settle(out);
            return;
        }
        if !refused {
            return;
        }
        if is_permission(message) {
            out.push(Output::Refused { action: name });
        } else if step == "contacts" && message.text("Message").is_some_and(|text| text.starts_with("No Contacts")) {
            // That is how an empty list is said.
            self.contacts_complete(out);
        } else if step == "contacts" {
            // Before 16 contacts are told with their endpoint only.
            for endpoint in self.phones.endpoints_to_ask() {
                self.ask_endpoint(&endpoint, out);
            }
        }
    }

    pub(super) fn apply_channel_list(&mut self, now: Now, out: &mut Vec<Output>) {
        let mut list = std::mem::take(&mut self.channels.list);
        // Callers first, then in the order in which they were made.
        list.sort_by_cached_key(|listed| (listed.channel.way != Way::In, serial(&listed.uniqueid)));
        let present: HashSet<&str> = list.iter().map(|listed| &*listed.uniqueid).collect();
        let gone: HashSet<Box<str>> =
            self.channels.iter().map(|(id, _)| id).filter(|id| !present.contains(id)).map(Into::into).collect();
        self.snapshot.missing = gone;
        self.snapshot.listed = true;
        for listed in list {
            self.apply_listed(listed, now, out);
        }
    }

    fn apply_listed(&mut self, listed: Listed, _now: Now, out: &mut Vec<Output>) {
        let Listed { uniqueid, channel, state } = listed;
        if self.channels.has_ended(&uniqueid) {
            return;
        }
        let way = channel.way;
        if let Some(known) = self.channels.get(&uniqueid) {
            let moved = is_moved(known, &channel);
            if known.name != channel.name {
                self.channels.rename(&uniqueid, &channel.name);
            }
            if moved {
                let evidence = format!("AMI CoreShowChannel, {}", channel.name);
                self.move_leg(&uniqueid, &channel.linkedid, evidence, out);
            }
        } else if !self.add_channel(&uniqueid, channel, out) {
            return;
        }
        match way {
            Way::In => self.came_in(&uniqueid, "CoreShowChannel", out),
            _ if state > RING => self.went_out(&uniqueid, "CoreShowChannel", out),
            _ => {}
        }
        if state == UP {
            self.told(&uniqueid, Told::Answered, "CoreShowChannel Up", out);
        } else {
            self.reached(&uniqueid, state, "CoreShowChannel", out);
        }
    }

    /// Whatever had been on its way when the lists were made has come: what is still missing has ended unseen.
    fn settle(&mut self, out: &mut Vec<Output>) {
        let snapshot = std::mem::take(&mut self.snapshot);
        if snapshot.listed {
            let mut missing: Vec<Box<str>> = snapshot.missing.into_iter().collect();
            missing.sort_unstable();
            for uniqueid in missing {
                if let Some(channel) = self.channels.remove(&uniqueid) {
                    self.caller_hung_up(&uniqueid, &channel, out);
                }
            }
            out.push(Output::Legs(self.legs()));
        }
        out.push(Output::Settled);
    }

    /// Keys of all legs that were told and have not ended.
    fn legs(&self) -> HashSet<LegKey> {
        self.channels.live_legs().into_iter().map(|id| LegKey(self.key(id).into())).collect()
    }
}

fn is_moved(known: &Channel, listed: &Channel) -> bool {
    known.linkedid != listed.linkedid && known.former.as_ref() != Some(&listed.linkedid)
}

/// `1795285354.7` in an order that counts: by second, then by number.
fn serial(uniqueid: &str) -> (u64, u64, String) {
    let stamp = uniqueid.rsplit('-').next().unwrap_or(uniqueid);
    let (seconds, number) = stamp.split_once('.').unwrap_or((stamp, "0"));
    (seconds.parse().unwrap_or(0), number.parse().unwrap_or(0), uniqueid.to_owned())
}

/// What is asked, in this order: names before what they name, queues before the channels that wait in them. The last one
/// is answered when everything before it has been, events included.
const STEPS: [(&str, &str); 8] = [
    ("clock", "Ping"),
    ("endpoints", "PJSIPShowEndpoints"),
    ("aors", "PJSIPShowAors"),
    ("contacts", "PJSIPShowContacts"),
    ("peers", "SIPpeers"),
    ("queues", "QueueStatus"),
    ("channels", "CoreShowChannels"),
    (LAST, "Ping"),
];
const LAST: &str = "end";
