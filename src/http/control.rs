//! Changes of queue memberships, wherever they must be made: here, or on the PBX that reports the queue (promise 8).
//!
//! What goes to a PBX counts only when its own event has confirmed it: the registry is changed by that event and by nothing
//! in here.

use tokio::sync::oneshot;

use super::problem::{Kind, Problem, Result};
use super::state::AppState;
use crate::clock::Clock;
use crate::model::{Device, Member, MemberKind, Queue};
use crate::registry::{Command, ControlRequest};
use crate::store::Seq;

/// Puts a device into a queue. One that is in it stays as it is.
///
/// # Errors
/// As `ask`; of a queue that no feed reports, what the registry refuses with.
pub async fn join(state: &AppState, queue: &Queue, device: &Device, penalty: u32) -> Result<()> {
    if !queue.is_fed() {
        let since = state.clock.now().unix;
        let member = Member { penalty, ..Member::manual(device.id, false, None, since) };
        let stored = state.registry.set_member(queue.id, member)?;
        return state.stored(stored.seq).await;
    }
    let name = device.label.as_deref().map(str::to_owned);
    let command = Command::AddMember { queue: queue.name.clone(), user: device.user.to_string(), name, penalty };
    ask(state, queue, command, |queue| on_pbx(queue, device).is_some()).await
}

/// Changes the order of preference of a member.
///
/// # Errors
/// As [`join`].
pub async fn set_penalty(state: &AppState, queue: &Queue, device: &Device, penalty: u32) -> Result<()> {
    if !queue.is_fed() {
        let known = queue.member(device.id).ok_or_else(|| Problem::not_found("member"))?;
        let stored = state.registry.set_member(queue.id, Member { penalty, ..known.clone() })?;
        return state.stored(stored.seq).await;
    }
    let command = Command::SetPenalty { queue: queue.name.clone(), user: device.user.to_string(), penalty };
    ask(state, queue, command, |queue| on_pbx(queue, device).is_some_and(|member| member.penalty == penalty)).await
}

/// Takes a device out of a queue. One that is not in it is no error.
///
/// # Errors
/// As [`join`].
pub async fn leave(state: &AppState, queue: &Queue, device: &Device) -> Result<()> {
    // One put in by hand is not in the PBX's queue, whatever it reports.
    if !queue.is_fed() || on_pbx(queue, device).is_none() {
        let seq = state.registry.remove_member(queue.id, device.id).map_or(Seq::default(), |queue| queue.seq);
        return state.stored(seq).await;
    }
    let command = Command::RemoveMember { queue: queue.name.clone(), user: device.user.to_string() };
    ask(state, queue, command, |queue| on_pbx(queue, device).is_none()).await
}

/// Holds calls back from a member, or no longer.
///
/// # Errors
/// As [`join`].
pub async fn pause(
    state: &AppState,
    queue: &Queue,
    device: &Device,
    paused: bool,
    reason: Option<String>,
) -> Result<()> {
    if !queue.is_fed() {
        let known = queue.member(device.id).ok_or_else(|| Problem::not_found("member"))?;
        let member = Member { paused, pause_reason: reason.filter(|_| paused), ..known.clone() };
        let stored = state.registry.set_member(queue.id, member)?;
        return state.stored(stored.seq).await;
    }
    let (queue_name, user) = (Some(queue.name.clone()), device.user.to_string());
    let command = Command::Pause { queue: queue_name, user, paused, reason };
    // Not every PBX tells the reason again.
    ask(state, queue, command, |queue| on_pbx(queue, device).is_some_and(|member| member.paused == paused)).await
}

/// The membership as the PBX reports it; none for one that was put in by hand and is not in the PBX's queue.
#[must_use]
pub fn on_pbx<'q>(queue: &'q Queue, device: &Device) -> Option<&'q Member> {
    queue.member(device.id).filter(|member| !queue.is_fed() || member.kind != MemberKind::Manual)
}

/// Sends a command to the queue's PBX and waits until its event has made `is_so` of the queue, and that is stored.
///
/// # Errors
/// 409 when nothing may be sent to that PBX, or it refuses; 503 when no feed of it takes commands now; 504 when it has
/// not confirmed in time; 503 when the change is not known to be stored.
async fn ask(state: &AppState, queue: &Queue, command: Command, is_so: impl Fn(&Queue) -> bool) -> Result<()> {
    let registry = &state.registry;
    let pbx = registry.pbxs.get(queue.pbx).ok_or_else(|| Problem::not_found("PBX"))?;
    if !pbx.value.control {
        let detail = format!("turn on `control` of the PBX {:?}, or make this change on the PBX", pbx.value.name);
        return Err(Problem::new(Kind::ControlOff, detail));
    }
    let sender =
        registry.feeds.control(queue.pbx).ok_or_else(|| unavailable("no feed that can change it is connected"))?;
    let (done, answer) = oneshot::channel();
    sender
        .try_send(ControlRequest { command, done })
        .map_err(|_| unavailable("its feed is behind with its commands"))?;
    let (wait, began) = (state.settings.confirm_wait, Clock::stopwatch());
    match tokio::time::timeout(wait, answer).await {
        Ok(Ok(Ok(()))) => {}
        // It may have been so already.
        Ok(Ok(Err(_))) if registry.queues.get(queue.id).is_some_and(|queue| is_so(&queue.value)) => {}
        Ok(Ok(Err(text))) => return Err(Problem::new(Kind::PbxRefused, text)),
        Ok(Err(_)) => return Err(unavailable("the connection broke before it answered")),
        Err(_) => return Err(Problem::new(Kind::NotConfirmed, "the PBX has not answered in time")),
    }
    if !registry.queue_confirms(queue.id, wait.saturating_sub(began.elapsed()), is_so).await {
        let detail = "the PBX has accepted it, and its event has not come in time";
        return Err(Problem::new(Kind::NotConfirmed, detail));
    }
    // The PBX's word is stored when it can be; an answer promises that it is.
    state.stored(registry.latest()).await
}

fn unavailable(why: &str) -> Problem {
    Problem::new(Kind::Unavailable, format!("the PBX can't be changed now: {why}"))
}
