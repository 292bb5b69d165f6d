//! Channel events become leg events.

use super::super::message::Message;
use super::ask::ASKS_MAX;
use super::cause::Unanswered;
use super::channel::{CHANNELS_MAX, Channel, Dial, Identity, Listed, Told, Way};
use super::name::{ChannelName, dialled_number};
use super::{Decoder, Output};
use crate::model::{Caller, ContactKey, Endpoint, Hop, LegEnd, LegEvent, LegStart, Now};

/// The keys under which an event describes one of its channels: `Channel`, `DestChannel`, `TransfereeChannel`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Side(pub &'static str);

impl Side {
    /// The channel an event is about.
    pub const MAIN: Self = Self("");
    /// The channel that was dialled.
    pub const DEST: Self = Self("Dest");

    pub fn text<'a>(self, message: &'a Message, key: &str) -> Option<&'a str> {
        if self.0.is_empty() { message.text(key) } else { message.text(&format!("{}{key}", self.0)) }
    }

    /// Its id: by `Uniqueid`, or as old versions write it.
    pub fn uniqueid(self, message: &Message) -> Option<&str> {
        self.text(message, "Uniqueid").or_else(|| self.text(message, "UniqueID"))
    }
}

impl Decoder {
    pub(super) fn on_channel_event(&mut self, event: &str, message: &Message, out: &mut Vec<Output>) {
        match event {
            "Newchannel" => self.on_new_channel(message, out),
            "Rename" => {
                if let (Some(uniqueid), Some(name)) = (message.text("Uniqueid"), message.text("Newname")) {
                    self.channels.rename(uniqueid, name);
                }
            }
            "Hangup" => self.on_hangup(message, out),
            "DialBegin" | "DialState" | "DialEnd" => self.on_dial(event, message, out),
            _ => {
                let Some(uniqueid) = self.refresh(message, Side::MAIN, out) else { return };
                match event {
                    "Newstate" => self.on_state(&uniqueid, message, "Newstate", out),
                    "BridgeEnter" => self.on_bridged(&uniqueid),
                    "HangupRequest" => self.on_hangup_request(&uniqueid, out),
                    _ => {}
                }
            }
        }
    }

    fn on_new_channel(&mut self, message: &Message, out: &mut Vec<Output>) {
        let Some(uniqueid) = message.text("Uniqueid") else { return };
        if self.channels.get(uniqueid).is_some() {
            // A list told of it first.
            self.refresh(message, Side::MAIN, out);
            return;
        }
        let Some(channel) = read_channel(message, Side::MAIN) else { return };
        let state = state_of(message, Side::MAIN);
        if !self.add_channel(uniqueid, channel, out) {
            return;
        }
        match state {
            Some(RING) => self.came_in(uniqueid, "Newchannel Ring", out),
            Some(UP) => self.on_state(uniqueid, message, "Newchannel", out),
            // What it is called for shows in the dial that follows.
            _ => {}
        }
    }

    pub(super) fn add_channel(&mut self, uniqueid: &str, channel: Channel, out: &mut Vec<Output>) -> bool {
        let (is_leg, name) = (channel.is_leg, channel.name.clone());
        if !self.channels.insert(uniqueid, channel) {
            self.dropped.channels += 1;
            return false;
        }
        if is_leg {
            Self::ask_call_id(uniqueid, &name, out);
        }
        true
    }

    /// Takes over what an event says of a channel, which it may be the first to name. The answer is the channel's id.
    pub(super) fn refresh(&mut self, message: &Message, side: Side, out: &mut Vec<Output>) -> Option<String> {
        let uniqueid = side.uniqueid(message)?.to_owned();
        let fresh = read_channel(message, side)?;
        let Some(known) = self.channels.get_mut(&uniqueid) else {
            if self.channels.has_ended(&uniqueid) || !self.add_channel(&uniqueid, fresh, out) {
                return None;
            }
            return Some(uniqueid);
        };
        // Events that were made before a transfer or pick-up still show the call it was in then.
        let moved = fresh.linkedid != known.linkedid && known.former.as_ref() != Some(&fresh.linkedid);
        if !fresh.caller.number.is_empty() {
            known.caller = fresh.caller;
        }
        if !fresh.connected.number.is_empty() {
            known.connected = fresh.connected;
        }
        if known.name != fresh.name {
            self.channels.rename(&uniqueid, &fresh.name);
        }
        if moved {
            let evidence = format!("AMI Linkedid changed, {}", fresh.name);
            self.move_leg(&uniqueid, &fresh.linkedid, evidence, out);
        }
        Some(uniqueid)
    }

    /// Tells that a leg belongs to another call now.
    pub(super) fn move_leg(&mut self, uniqueid: &str, linkedid: &str, evidence: String, out: &mut Vec<Output>) {
        let Some(channel) = self.channels.get_mut(uniqueid) else { return };
        if channel.linkedid != linkedid {
            channel.former = Some(std::mem::replace(&mut channel.linkedid, linkedid.to_owned()));
        }
        if channel.is_told() {
            let call = self.key(linkedid).into();
            self.tell(uniqueid, LegEvent::Moved(call), evidence, out);
        }
    }

    pub(super) fn on_state(&mut self, uniqueid: &str, message: &Message, event: &str, out: &mut Vec<Output>) {
        let Some(state) = state_of(message, Side::MAIN) else { return };
        self.reached(uniqueid, state, event, out);
    }

    /// A channel is in this state now, or further.
    pub(super) fn reached(&mut self, uniqueid: &str, state: u8, event: &str, out: &mut Vec<Output>) {
        let Some(channel) = self.channels.get(uniqueid) else { return };
        if !channel.is_leg {
            return;
        }
        match state {
            RING => self.came_in(uniqueid, &format!("{event} Ring"), out),
            RINGING if channel.awaits_dial() => {
                if let Some(channel) = self.channels.get_mut(uniqueid) {
                    channel.dial = Dial::Late;
                }
            }
            RINGING => {
                self.went_out(uniqueid, event, out);
                self.told(uniqueid, Told::Rang, &format!("{event} Ringing"), out);
            }
            UP => {
                // One that was never seen ringing may be of either kind; whose Linkedid is its own began its call.
                let began = channel.linkedid == uniqueid && channel.parent.is_none();
                if channel.way == Way::Unknown && began && channel.dial_string.is_none() && !channel.exten.is_empty() {
                    self.came_in(uniqueid, &format!("{event} Up"), out);
                }
                self.went_out(uniqueid, event, out);
                self.told(uniqueid, Told::Answered, &format!("{event} Up"), out);
            }
            _ => {}
        }
    }

    fn on_bridged(&mut self, uniqueid: &str) {
        // Before it is answered a channel is bridged only to hear what the far end plays.
        let answered = self.channels.get(uniqueid).is_some_and(|channel| channel.told == Told::Answered);
        if answered {
            self.settle_siblings(uniqueid);
        }
    }

    fn on_hangup_request(&mut self, uniqueid: &str, out: &mut Vec<Output>) {
        let Some(channel) = self.channels.get_mut(uniqueid) else { return };
        let first = !std::mem::replace(&mut channel.marks.hangup_requested, true);
        if first && channel.is_told() && channel.way == Way::In {
            let evidence = format!("AMI HangupRequest, {}", channel.name);
            self.tell(uniqueid, LegEvent::Cancelling, evidence, out);
        }
    }

    fn on_dial(&mut self, event: &str, message: &Message, out: &mut Vec<Output>) {
        let parent = self.refresh(message, Side::MAIN, out);
        let Some(dest) = self.refresh(message, Side::DEST, out) else { return };
        let status = message.text("DialStatus").unwrap_or_default().to_ascii_uppercase();
        if let Some(channel) = self.channels.get_mut(&dest) {
            if let Some(parent) = parent {
                channel.parent = Some(parent.into());
            }
            if let Some(string) = message.text("DialString") {
                channel.dial_string = Some(string.to_owned());
            }
            if !channel.is_leg {
                return;
            }
        }
        self.went_out(&dest, event, out);
        if self.channels.get(&dest).is_some_and(|channel| channel.dial == Dial::Late) {
            self.told(&dest, Told::Rang, "Newstate Ringing", out);
        }
        match status.as_str() {
            "RINGING" => self.told(&dest, Told::Rang, &format!("{event} RINGING"), out),
            "PROGRESS" => self.told(&dest, Told::Rang, &format!("{event} PROGRESS"), out),
            "ANSWER" if event == "DialEnd" => {
                self.told(&dest, Told::Answered, "DialEnd ANSWER", out);
                self.settle_siblings(&dest);
            }
            _ => {}
        }
    }

    /// Of all that were dialled together one has answered: how the others end is settled, whatever their cause says.
    fn settle_siblings(&mut self, answered: &str) {
        let Some(winner) = self.channels.get(answered) else { return };
        let Some(parent) = winner.parent.clone() else { return };
        let losers: Vec<String> = self
            .channels
            .iter()
            .filter(|(id, channel)| *id != answered && channel.parent.as_ref() == Some(&parent))
            .map(|(id, _)| id.to_owned())
            .collect();
        for loser in losers {
            if let Some(channel) = self.channels.get_mut(&loser).filter(|channel| channel.told < Told::Answered) {
                channel.marks.elsewhere = true;
            }
        }
    }

    fn on_hangup(&mut self, message: &Message, out: &mut Vec<Output>) {
        let Some(uniqueid) = message.text("Uniqueid") else { return };
        if self.channels.get(uniqueid).is_none() {
            return;
        }
        self.refresh(message, Side::MAIN, out);
        let cause = message.number::<u16>("Cause").unwrap_or(0);
        let text = message.text("Cause-txt").unwrap_or("no cause");
        let Some(channel) = self.channels.remove(uniqueid) else { return };
        self.caller_hung_up(uniqueid, &channel, out);
        if !channel.is_told() {
            return;
        }
        let end = match channel.told {
            Told::Answered => LegEnd::Bye,
            _ => Unanswered {
                cause,
                called: channel.way == Way::Out,
                far_end: channel.marks.hangup_requested,
                elsewhere: channel.marks.elsewhere,
            }
            .end(),
        };
        let evidence = format!("AMI Hangup {cause} {text}, {}", channel.name);
        self.tell(uniqueid, LegEvent::Ended(end), evidence, out);
    }

    /// A channel whose far end called the PBX.
    pub(super) fn came_in(&mut self, uniqueid: &str, event: &str, out: &mut Vec<Output>) {
        let Some(channel) = self.channels.get_mut(uniqueid) else { return };
        if channel.is_told() || !channel.is_leg {
            return;
        }
        channel.way = Way::In;
        channel.told = Told::Started;
        let channel = channel.clone();
        let target = if channel.exten == "s" { "" } else { channel.exten.as_str() };
        let start = self.start(&channel, Hop::ToPbx, target, &channel.caller, None);
        let (start, evidence) = (LegEvent::Started(Box::new(start)), format!("AMI {event}, {}", channel.name));
        if self.ask_presentation(uniqueid, out) {
            self.tell_later(uniqueid, start, evidence, out);
        } else {
            self.tell(uniqueid, start, evidence, out);
        }
        self.queued_if_waiting(uniqueid, out);
    }

    /// A channel on which the PBX calls its far end.
    pub(super) fn went_out(&mut self, uniqueid: &str, event: &str, out: &mut Vec<Output>) {
        let Some(channel) = self.channels.get_mut(uniqueid) else { return };
        if channel.is_told() || !channel.is_leg {
            return;
        }
        channel.way = Way::Out;
        channel.told = Told::Started;
        let channel = channel.clone();
        let queue = self.channels.queue_of(uniqueid, &self.queues.waiting);
        let number = channel.dial_string.as_deref().and_then(dialled_number).map(str::to_owned);
        let target = number.or_else(|| channel.endpoint().map(str::to_owned)).unwrap_or_default();
        let caller = self.calling(&channel);
        let start = self.start(&channel, Hop::FromPbx, &target, &caller, queue);
        let evidence = match &start.queue {
            Some(queue) => format!("AMI {event} for queue {queue}, {}", channel.name),
            None => format!("AMI {event}, {}", channel.name),
        };
        self.tell(uniqueid, LegEvent::Started(Box::new(start)), evidence, out);
        self.queued_if_waiting(uniqueid, out);
    }

    /// Who calls, on a channel the PBX calls out on: the far end is shown as connected line, as its phone shows it.
    fn calling(&self, channel: &Channel) -> Identity {
        if !channel.connected.number.is_empty() {
            return channel.connected.clone();
        }
        let parent = channel.parent.as_deref().and_then(|parent| self.channels.get(parent));
        let root = self.channels.get(&channel.linkedid);
        let known = [parent, root].into_iter().flatten().find(|other| !other.caller.number.is_empty());
        known.map(|other| other.caller.clone()).unwrap_or_default()
    }

    fn start(&self, channel: &Channel, hop: Hop, target: &str, caller: &Identity, queue: Option<String>) -> LegStart {
        let user = |user: &str| ContactKey { user: user.into(), ..ContactKey::default() };
        let said = WITHHELD.iter().any(|word| caller.number.eq_ignore_ascii_case(word));
        let parent = channel.parent.as_deref().and_then(|parent| self.channels.get(parent));
        let root = self.channels.get(&channel.linkedid);
        let asked = [parent, root].into_iter().flatten().any(|other| {
            // Only the one who asked is kept unnamed, not whoever else calls in the same call.
            other.withheld && (caller.number.is_empty() || caller.number == other.caller.number)
        });
        let withheld = said || asked || channel.withheld;
        let caller = if withheld {
            Caller { withheld, ..Caller::default() }
        } else {
            Caller { number: caller.number.clone(), name: caller.name.clone(), withheld }
        };
        let endpoint = channel.endpoint().map(|endpoint| self.phones.user_of(endpoint));
        LegStart {
            call_key: self.key(&channel.linkedid).into(),
            hop,
            target: user(target),
            to: user(target),
            from: user(&caller.number),
            caller,
            endpoint: endpoint.map(|user| Endpoint { user: user.to_owned(), domain: None }),
            sip_call_id: channel.call_id.clone(),
            queue,
            ..LegStart::default()
        }
    }

    /// Tells that a leg has got so far, once.
    pub(super) fn told(&mut self, uniqueid: &str, step: Told, event: &str, out: &mut Vec<Output>) {
        let Some(channel) = self.channels.get_mut(uniqueid) else { return };
        if !channel.is_told() || channel.told >= step {
            return;
        }
        channel.told = step;
        if channel.call_id.is_none() && (1..ASKS_MAX).contains(&channel.unnamed) {
            Self::ask_call_id(uniqueid, &channel.name, out);
        }
        let evidence = format!("AMI {event}, {}", channel.name);
        let leg = if step == Told::Answered { LegEvent::Answered } else { LegEvent::Rang };
        self.tell(uniqueid, leg, evidence, out);
    }

    pub(super) fn on_channel_list(&mut self, event: &str, message: &Message, now: Now, out: &mut Vec<Output>) {
        if event == "CoreShowChannel" {
            let (Some(uniqueid), Some(mut channel)) = (message.text("Uniqueid"), read_channel(message, Side::MAIN))
            else {
                return;
            };
            if self.channels.list.len() >= CHANNELS_MAX {
                self.dropped.list_entries += 1;
                return;
            }
            let state = state_of(message, Side::MAIN).unwrap_or(0);
            channel.dial = Dial::Past;
            channel.way = way_of_listed(message, uniqueid, &channel, state);
            self.channels.list.push(Listed { uniqueid: uniqueid.into(), channel, state });
            return;
        }
        self.apply_channel_list(now, out);
    }
}

/// What an event says of one of its channels.
fn read_channel(message: &Message, side: Side) -> Option<Channel> {
    let name = side.text(message, "Channel")?;
    let parsed = ChannelName::parse(name)?;
    let text = |key: &str| side.text(message, key).unwrap_or_default().to_owned();
    let uniqueid = side.uniqueid(message)?;
    let linkedid = side.text(message, "Linkedid").unwrap_or(uniqueid);
    Some(Channel {
        name: name.to_owned(),
        linkedid: linkedid.to_owned(),
        is_leg: parsed.is_leg(),
        caller: Identity { number: text("CallerIDNum"), name: text("CallerIDName") },
        connected: Identity { number: text("ConnectedLineNum"), name: text("ConnectedLineName") },
        exten: text("Exten"),
        ..Channel::default()
    })
}

fn state_of(message: &Message, side: Side) -> Option<u8> {
    side.text(message, "ChannelState")?.parse().ok()
}

/// A list does not say who called whom; the application does, and else who began the call.
fn way_of_listed(message: &Message, uniqueid: &str, channel: &Channel, state: u8) -> Way {
    let application = message.text("Application").unwrap_or_default();
    let dialled = OUTGOING.iter().any(|name| application.eq_ignore_ascii_case(name))
        || message.text("ApplicationData") == Some("(Outgoing Line)");
    match state {
        RING => Way::In,
        RINGING => Way::Out,
        _ if dialled => Way::Out,
        _ if channel.linkedid == uniqueid => Way::In,
        _ => Way::Out,
    }
}

/// States of a channel: it calls us, we make it ring, it is answered.
pub(super) const RING: u8 = 4;
pub(super) const RINGING: u8 = 5;
pub(super) const UP: u8 = 6;
/// Applications that a channel shows which was dialled.
const OUTGOING: [&str; 3] = ["AppDial", "AppDial2", "AppQueue"];
/// What stands in place of a number its owner does not want shown.
const WITHHELD: [&str; 5] = ["anonymous", "restricted", "private", "withheld", "unavailable"];
