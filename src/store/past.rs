//! Rows of the history's tables, as sqlx reads them.

use sqlx::FromRow;

use super::StoreError;
use super::cell::{At, Readable};
use crate::model::{Call, CallId, DeviceId, QueueId, TrailEntry, Transition, UnixMillis, UserId};

#[derive(FromRow)]
pub(super) struct CallRow {
    id: String,
    body: String,
}

impl Readable for CallRow {
    type Record = Call;

    fn into_record(self) -> Result<Call, StoreError> {
        At { table: "calls", row: &self.id }.json("body", &self.body)
    }
}

#[derive(FromRow)]
pub(super) struct TrailRow {
    seq: i64,
    call_id: String,
    position: i64,
    at: i64,
    user_id: Option<String>,
    reason: String,
    device: Option<String>,
    queue: Option<String>,
    sessions: i64,
    event: String,
}

impl Readable for TrailRow {
    type Record = TrailEntry;

    fn into_record(self) -> Result<TrailEntry, StoreError> {
        let key = self.seq.to_string();
        let at = At { table: "trail", row: &key };
        Ok(TrailEntry {
            call: CallId(at.id("call_id", &self.call_id)?),
            position: at.number("position", self.position)?,
            at: UnixMillis(self.at),
            user: at.optional_id("user_id", self.user_id.as_deref())?.map(UserId),
            reason: at.word("reason", &self.reason)?,
            device: at.optional_id("device", self.device.as_deref())?.map(DeviceId),
            queue: at.optional_id("queue", self.queue.as_deref())?.map(QueueId),
            sessions: at.number("sessions", self.sessions)?,
            event: self.event,
        })
    }
}

#[derive(FromRow)]
pub(super) struct TransitionRow {
    pub(super) seq: i64,
    device: String,
    at: i64,
    kind: String,
    contact: Option<String>,
    address: Option<String>,
    user_agent: Option<String>,
    cause: String,
}

impl Readable for TransitionRow {
    type Record = Transition;

    fn into_record(self) -> Result<Transition, StoreError> {
        let key = self.seq.to_string();
        let at = At { table: "transitions", row: &key };
        Ok(Transition {
            device: DeviceId(at.id("device", &self.device)?),
            at: UnixMillis(self.at),
            kind: at.word("kind", &self.kind)?,
            contact: self.contact,
            address: self.address.map(|address| at.parsed("address", &address)).transpose()?,
            user_agent: self.user_agent,
            cause: self.cause,
        })
    }
}
