//! Calls that change hands: transfers and pick-up.

use super::super::message::Message;
use super::channel::Channel;
use super::legs::Side;
use super::{Decoder, Output};
use crate::model::LegEvent;

impl Decoder {
    pub(super) fn on_blind_transfer(&mut self, message: &Message, out: &mut Vec<Output>) {
        if !has_worked(message) {
            return;
        }
        self.refresh(message, Side("Transferee"), out);
        if let Some(transferer) = self.refresh(message, Side("Transferer"), out) {
            self.refer(&transferer, "BlindTransfer", out);
        }
    }

    /// The transferer's legs go; whoever its second call reached, answered or still ringing (blonde), belongs to the
    /// first call from now on.
    pub(super) fn on_attended_transfer(&mut self, message: &Message, out: &mut Vec<Output>) {
        if !has_worked(message) {
            return;
        }
        let first = self.refresh(message, Side("OrigTransferer"), out);
        let second = self.refresh(message, Side("SecondTransferer"), out);
        let transferee = self.refresh(message, Side("Transferee"), out);
        let target = self.refresh(message, Side("TransferTarget"), out);
        let linkedid = |id: &Option<String>| {
            id.as_deref().and_then(|id| self.channels.get(id)).map(|channel| channel.linkedid.clone())
        };
        let call = linkedid(&transferee).or_else(|| linkedid(&first));
        let left = linkedid(&second).or_else(|| linkedid(&target));
        for transferer in [&first, &second].into_iter().flatten() {
            self.refer(transferer, "AttendedTransfer", out);
        }
        let (Some(call), Some(left)) = (call, left) else { return };
        if call == left {
            return;
        }
        let stays = |id: &str| [&first, &second].into_iter().flatten().any(|transferer| transferer == id);
        let of_second = |channel: &Channel| channel.linkedid == left;
        let mut moved: Vec<String> = self
            .channels
            .iter()
            .filter(|(id, channel)| of_second(channel) && !stays(id))
            .map(|(id, _)| id.to_owned())
            .collect();
        moved.sort_unstable();
        for uniqueid in moved {
            let name = self.channels.get(&uniqueid).map(|channel| channel.name.clone()).unwrap_or_default();
            self.move_leg(&uniqueid, &call, format!("AMI AttendedTransfer, {name}"), out);
        }
    }

    /// Somebody else answers a ringing phone: their leg joins its call, and the phone stops ringing.
    pub(super) fn on_pickup(&mut self, message: &Message, out: &mut Vec<Output>) {
        let picker = self.refresh(message, Side::MAIN, out);
        let Some(target) = self.refresh(message, Side("Target"), out) else { return };
        let Some(ringing) = self.channels.get_mut(&target) else { return };
        ringing.marks.elsewhere = true;
        let (call, parent) = (ringing.linkedid.clone(), ringing.parent.clone());
        let Some(picker) = picker else { return };
        let Some(channel) = self.channels.get_mut(&picker) else { return };
        // It takes the ringing one's place among those that were dialled together.
        channel.parent = parent;
        if channel.linkedid != call {
            let evidence = format!("AMI Pickup, {}", channel.name);
            self.move_leg(&picker, &call, evidence, out);
        }
    }

    fn refer(&mut self, uniqueid: &str, event: &str, out: &mut Vec<Output>) {
        let Some(channel) = self.channels.get_mut(uniqueid) else { return };
        if channel.is_told() && !std::mem::replace(&mut channel.marks.referred, true) {
            let evidence = format!("AMI {event}, {}", channel.name);
            self.tell(uniqueid, LegEvent::Referred, evidence, out);
        }
    }
}

fn has_worked(message: &Message) -> bool {
    message.text("Result").is_none_or(|result| result.eq_ignore_ascii_case("Success"))
}
