//! A caller's way through a queue, where the PBX tells of it.

use super::call::LiveCall;
use super::effect::Context;
use super::offers;
use crate::model::{LegRole, PbxId, QueueId, Queued, UnixMillis, Waiting};

/// What a call has to do with its queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Line {
    /// It is the queue's, if it has one.
    #[default]
    Holds,
    /// It left the waiting line; what rings next without a queue's word is no queue call any more.
    Left,
    /// It went on from its queue to somebody who is called directly.
    Past,
}

impl Line {
    /// After a new leg of this role, for which a queue was named or not.
    pub fn after_leg(self, role: LegRole, named: bool) -> Self {
        match self {
            _ if named => Self::Holds,
            Self::Left if role == LegRole::ToDevice => Self::Past,
            line => line,
        }
    }
}

impl LiveCall {
    /// The queue whose call it is now, for popups; the record keeps the one it came through.
    pub fn queue(&self) -> Option<QueueId> {
        self.call.queue.filter(|_| self.line != Line::Past)
    }

    /// The caller waits in a queue of the PBX.
    pub fn on_queued(&mut self, context: &mut Context<'_>, pbx: PbxId, queued: &Queued) {
        self.heard(context.now);
        let Some(queue) = context.view.queue_by_name(pbx, &queued.queue) else { return };
        if context.view.queue(queue).is_none_or(|queue| queue.account != self.call.account) {
            return;
        }
        self.line = Line::Holds;
        let since = UnixMillis(context.now.unix.0.saturating_sub_unsigned(queued.waited_ms));
        let again = self.call.queue == Some(queue) && self.call.waiting.is_some();
        self.edit().queue = Some(queue);
        self.edit().waiting = Some(Waiting { since, position: queued.position });
        if !again {
            offers::refresh_parties(self, context);
            offers::on_queue_join(self, context);
        }
    }

    /// The caller left the waiting line, for whatever reason.
    pub fn on_unqueued(&mut self) {
        self.changed |= self.edit().waiting.take().is_some();
        self.line = Line::Left;
    }
}
