//! What the decoder asks, and what becomes of the answers. An answer finds its way by its id alone.

use super::super::action::Action;
use super::super::message::Message;
use super::channel::Told;
use super::hold::PRESENTATION;
use super::name::ChannelName;
use super::{Decoder, Output};
use crate::model::{LegEvent, LegKey, Now};

/// A question to the PBX.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The answer's `ActionID`.
    pub id: String,
    /// What to send.
    pub action: Action,
}

impl Ask {
    /// Whether a ringing phone waits for it.
    #[must_use]
    pub fn is_urgent(&self) -> bool {
        self.id.starts_with(CALL_ID) || self.id.starts_with(PRESENTATION)
    }
}

impl Decoder {
    /// Asks for a channel's SIP Call-ID. Asterisk tells it on request only; having it sent with every event
    /// (`channelvars`) is what must not be done: it has been seen to deadlock.
    pub(super) fn ask_call_id(uniqueid: &str, name: &str, out: &mut Vec<Output>) {
        let variable = match ChannelName::parse(name) {
            Some(parsed) if parsed.is_pjsip() => "CHANNEL(pjsip,call-id)",
            Some(parsed) if parsed.is_chan_sip() => "SIPCALLID",
            _ => return,
        };
        let action = Action::new("Getvar").with("Channel", name).and_then(|action| action.with("Variable", variable));
        if let Ok(action) = action {
            out.push(Output::ask(format!("{CALL_ID}{uniqueid}"), action));
        }
    }

    /// Asks for everything about one endpoint's contacts.
    pub(super) fn ask_endpoint(&mut self, endpoint: &str, out: &mut Vec<Output>) {
        if let Ok(action) = Action::new("PJSIPShowEndpoint").with("Endpoint", endpoint)
            && self.phones.may_ask(endpoint)
        {
            out.push(Output::ask(format!("{ENDPOINT}{endpoint}"), action));
        }
    }

    pub(super) fn on_response(&mut self, message: &Message, now: Now, out: &mut Vec<Output>) {
        let (Some(id), Some(response)) = (message.text("ActionID"), message.text("Response")) else { return };
        self.read_clock(message, now);
        let refused = !response.eq_ignore_ascii_case("Success") && !response.eq_ignore_ascii_case("Pong");
        if let Some(uniqueid) = id.strip_prefix(CALL_ID) {
            if let Some(call_id) = message.text("Value").filter(|_| !refused) {
                self.on_call_id(uniqueid, call_id, out);
            } else if refused && is_permission(message) {
                out.push(Output::Refused { action: "Getvar" });
            } else {
                self.on_no_call_id(uniqueid, out);
            }
        } else if let Some(uniqueid) = id.strip_prefix(PRESENTATION) {
            self.on_presentation(uniqueid, message, out);
        } else if let Some(endpoint) = id.strip_prefix(ENDPOINT) {
            if refused {
                self.phones.asked.remove(endpoint);
                if is_permission(message) {
                    out.push(Output::Refused { action: "PJSIPShowEndpoint" });
                }
            }
        } else if let Some(step) = id.strip_prefix(SNAPSHOT) {
            self.on_snapshot_response(step, message, refused, out);
        }
    }

    /// It was asked too early: once the phone rings its INVITE has a Call-ID for certain.
    fn on_no_call_id(&mut self, uniqueid: &str, out: &mut Vec<Output>) {
        let Some(channel) = self.channels.get_mut(uniqueid) else { return };
        channel.unnamed = channel.unnamed.saturating_add(1);
        if channel.told >= Told::Rang && channel.unnamed < ASKS_MAX {
            Self::ask_call_id(uniqueid, &channel.name, out);
        }
    }

    fn on_call_id(&mut self, uniqueid: &str, call_id: &str, out: &mut Vec<Output>) {
        let Some(channel) = self.channels.get_mut(uniqueid) else { return };
        if channel.call_id.is_some() || call_id.len() > CALL_ID_MAX {
            return;
        }
        channel.call_id = Some(call_id.to_owned());
        if channel.is_told() {
            let evidence = format!("AMI Getvar call-id, {}", channel.name);
            let leg = LegKey(self.key(uniqueid).into());
            if let Some(start) = self.hold.waiting_start(&leg) {
                start.sip_call_id = Some(call_id.to_owned());
                return;
            }
            self.tell(uniqueid, LegEvent::Named(call_id.to_owned()), evidence, out);
        }
    }

    /// A Pong tells the PBX's time, against which its expiry times are read.
    fn read_clock(&mut self, message: &Message, now: Now) {
        if message.text("Ping").is_none() {
            return;
        }
        let Some((seconds, _)) = message.text("Timestamp").and_then(|stamp| stamp.split_once('.')) else { return };
        if let Ok(seconds) = seconds.parse::<i64>() {
            let ahead = now.unix.0.saturating_sub(seconds.saturating_mul(1000));
            // What the network takes is no difference.
            self.clock_ahead_ms = if ahead.abs() < CLOCK_TOLERANCE_MS { 0 } else { ahead };
        }
    }
}

pub(super) fn is_permission(message: &Message) -> bool {
    message.text("Message").is_some_and(|text| text.to_ascii_lowercase().contains("permission"))
}

/// Ids of questions start with what they ask.
pub(super) const CALL_ID: &str = "hookswitch-call-id-";
pub(super) const ENDPOINT: &str = "hookswitch-endpoint-";
pub(super) const SNAPSHOT: &str = "hookswitch-snapshot-";
const CALL_ID_MAX: usize = 256;
/// How often a channel is asked for its Call-ID.
pub(super) const ASKS_MAX: u8 = 4;
const CLOCK_TOLERANCE_MS: i64 = 2_000;
