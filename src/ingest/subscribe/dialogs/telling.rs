//! What one dialog says, in the words of leg events.

use std::sync::Arc;

use super::Resource;
use crate::ingest::subscribe::dialog_info::{Dialog, Event, Identity, State};
use crate::model::{Caller, ContactKey, Endpoint, Hop, JoinHints, LegEnd, LegStart};
use crate::sip::Uri;

/// What a dialog begins with, as far as it is told.
pub(super) fn start(resource: Resource<'_>, dialog: &Dialog, caller: bool, call_key: Arc<str>) -> LegStart {
    let own = ContactKey { user: resource.user.into(), host: resource.domain.unwrap_or_default().into(), port: None };
    let remote = dialog.remote.uri.as_deref().and_then(|uri| Uri::parse(uri).ok()).map(|uri| uri.key());
    let remote = remote.unwrap_or_default();
    let (hop, target, from, side) =
        if caller { (Hop::ToPbx, remote, own, &dialog.local) } else { (Hop::FromPbx, own, remote, &dialog.remote) };
    let number = if caller { resource.user.to_owned() } else { from.user.to_string() };
    let other_leg = dialog.call_id.iter().filter(|call_id| ***call_id != *call_key).cloned().collect();
    LegStart {
        call_key,
        hop,
        to: target.clone(),
        target,
        caller: calls(side, number, &from),
        from,
        joins: JoinHints { other_leg, session_id: None, replaces: dialog.replaces.clone() },
        endpoint: Some(Endpoint { user: resource.user.to_owned(), domain: resource.domain.map(str::to_owned) }),
        sip_call_id: dialog.call_id.clone(),
        ..LegStart::default()
    }
}

/// Who calls, as the dialog shows it.
fn calls(side: &Identity, number: String, from: &ContactKey) -> Caller {
    if from.user.eq_ignore_ascii_case("anonymous") || from.host.eq_ignore_ascii_case("anonymous.invalid") {
        return Caller { withheld: true, ..Caller::default() };
    }
    let name = side.display.as_deref().unwrap_or_default().chars().take(NAME_CHARS_MAX).collect();
    Caller { number, name, withheld: false }
}

/// The canonical user part of an identity.
pub(super) fn user_of(identity: &Identity) -> Option<String> {
    let user = Uri::parse(identity.uri.as_deref()?).ok()?.key().user;
    (!user.is_empty()).then(|| user.into_string())
}

/// How a dialog ended that stood at `before`.
pub(super) fn how_it_ended(before: State, dialog: &Dialog) -> LegEnd {
    if before == State::Confirmed {
        return LegEnd::Bye;
    }
    let code = dialog.code.filter(|code| (300..700).contains(code));
    match dialog.event {
        Some(Event::Rejected) => LegEnd::Rejected(code.unwrap_or(603)),
        Some(Event::Error) => LegEnd::Rejected(code.unwrap_or(500)),
        Some(Event::Timeout) => LegEnd::TimedOut,
        Some(Event::Bye) => LegEnd::Bye,
        Some(Event::Cancelled | Event::Replaced) => LegEnd::Cancelled,
        None => code.filter(|code| *code != 487).map_or(LegEnd::Cancelled, LegEnd::Rejected),
    }
}

/// A name as it may stand in a leg's key.
pub(super) fn plain(name: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.+*#@".contains(c);
    name.chars().take(NAME_CHARS_MAX).map(|c| if fits(c) { c } else { '_' }).collect()
}

/// A state as the trail has it.
pub(super) fn word(state: State) -> &'static str {
    match state {
        State::Trying => "trying",
        State::Proceeding => "proceeding",
        State::Early => "early",
        State::Confirmed => "confirmed",
        State::Terminated => "terminated",
    }
}

const NAME_CHARS_MAX: usize = 128;
