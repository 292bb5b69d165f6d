//! One commit's worth of rows, as the statements' parameters.

use super::commit::Item;
use super::pending::History;
use super::rows::{json, word};
use super::statements::{
    CALL_DEVICES, CALL_DEVICES_GONE, CALL_USERS, CALL_USERS_GONE, CALLS, Statement, TRAIL, TRANSITIONS, delete, upsert,
};
use super::{DirtyKey, Kind, Row, Seq};
use crate::model::Call;

/// A statement and its parameter.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) statement: Statement,
    pub(super) parameter: Parameter,
}

/// Many rows in one parameter, or in one a column.
#[derive(Debug)]
pub(super) enum Parameter {
    /// A JSON array.
    Json(String),
    /// The bindings' columns.
    Bindings(BindingColumns),
}

/// Bindings, a column each.
#[derive(Debug, Default)]
pub(super) struct BindingColumns {
    pub(super) devices: Vec<String>,
    pub(super) contacts: Vec<String>,
    pub(super) seqs: Vec<i64>,
}

/// What to run for `items`, in order, inside one transaction; and the highest number of a deleted row, which no row will
/// be left to tell.
pub(super) fn steps(items: &[Item]) -> (Vec<Step>, Option<Seq>) {
    let mut steps = Vec::new();
    for kind in KINDS {
        let changes = || items.iter().filter_map(|item| change_of(item, kind));
        let gone: Vec<String> = changes().filter(|(_, row)| row.is_none()).map(|(key, _)| key.id.to_string()).collect();
        if !gone.is_empty() {
            steps.push(Step { statement: delete(kind), parameter: Parameter::Json(json(&gone)) });
        }
        if changes().any(|(_, row)| row.is_some()) {
            let rows = changes().filter_map(|(_, row)| row.as_ref());
            steps.push(Step { statement: upsert(kind), parameter: record_rows(kind, rows) });
        }
    }
    history_steps(items, &mut steps);
    let deleted = items.iter().filter_map(|item| match item {
        Item::Change { row: None, span, .. } => Some(Seq(span.last)),
        _ => None,
    });
    (steps, deleted.max())
}

impl BindingColumns {
    /// The same as rows.
    pub(super) fn to_json(&self) -> String {
        let rows = self.devices.iter().zip(&self.contacts).zip(&self.seqs);
        json(&rows.map(|((device, contacts), seq)| (device, contacts, seq)).collect::<Vec<_>>())
    }
}

fn change_of(item: &Item, of: Kind) -> Option<(&DirtyKey, &Option<Row>)> {
    match item {
        Item::Change { key, row, .. } if key.kind == of => Some((key, row)),
        _ => None,
    }
}

fn record_rows<'a>(kind: Kind, rows: impl Iterator<Item = &'a Row>) -> Parameter {
    if kind != Kind::Bindings {
        return Parameter::Json(array(rows.map(record_row)));
    }
    let mut columns = BindingColumns::default();
    for row in rows {
        if let Row::Bindings { device, contacts, seq } = row {
            columns.devices.push(device.to_string());
            columns.contacts.push(contacts.clone());
            columns.seqs.push(number(*seq));
        }
    }
    Parameter::Bindings(columns)
}

/// One row as a JSON array, in the order of the statement's columns.
fn record_row(row: &Row) -> String {
    match row {
        Row::Account(row) => {
            let value = &row.value;
            json(&(
                value.id,
                value.parent,
                &value.name,
                json(&value.domains),
                json(&value.number_plan),
                json(&value.settings),
                value.created_at,
                row.seq,
            ))
        }
        Row::Site(row) => {
            let value = &row.value;
            json(&(value.id, value.account, &value.name, value.created_at, row.seq))
        }
        Row::Pbx(row) => {
            let value = &row.value;
            json(&(
                value.id,
                value.account,
                value.site,
                &value.name,
                &value.domain,
                json(&value.aliases),
                value.any_domain,
                json(&value.networks),
                value.passive_expires_max_s,
                value.passive_grace_s,
                json(&value.queue_rules),
                value.control,
                value.created_at,
                row.seq,
            ))
        }
        Row::User(row) => {
            let value = &row.value;
            json(&(
                value.id,
                value.account,
                &value.email,
                &value.name,
                value.enabled,
                value.dnd,
                value.pop_on,
                json(&value.queues),
                value.created_at,
                row.seq,
            ))
        }
        Row::Queue(row) => {
            let value = &row.value;
            let members = json(&value.members);
            json(&(value.id, value.account, value.pbx, &value.name, &value.number, members, value.created_at, row.seq))
        }
        Row::Token(row) => {
            let value = &row.value;
            json(&(
                value.id,
                value.account,
                value.scope,
                value.user,
                value.pbx,
                &value.label,
                &value.hash,
                value.created_at,
                value.expires_at,
                row.seq,
            ))
        }
        Row::Device(row) => {
            let value = &row.value;
            json(&(
                value.id,
                value.account,
                value.pbx,
                &value.user,
                &value.extension,
                &value.label,
                &value.caller_id,
                value.enabled,
                value.assignable,
                &value.last_caller,
                value.last_seen_at,
                value.created_at,
                row.seq,
            ))
        }
        Row::Link(row) => {
            let value = &row.value;
            json(&(value.id, value.account, value.device, value.user, value.began_at, value.ended_at, row.seq))
        }
        Row::Bindings { device, contacts, seq } => json(&(device, contacts, seq)),
    }
}

fn history_steps(items: &[Item], steps: &mut Vec<Step>) {
    let mut push = |statement: Statement, rows: Vec<String>| {
        if !rows.is_empty() {
            steps.push(Step { statement, parameter: Parameter::Json(array(rows.into_iter())) });
        }
    };
    let history = || items.iter().filter_map(|item| if let Item::History(entry) = item { Some(entry) } else { None });
    let calls = || history().filter_map(|entry| if let History::Call(_, call) = entry { Some(&**call) } else { None });
    let trail = history().filter_map(|entry| {
        let History::Trail(seq, e) = entry else { return None };
        Some(json(&(seq, e.call, e.position, e.at, e.user, e.reason, e.device, e.queue, e.sessions, &e.event)))
    });
    let transitions = history().filter_map(|entry| {
        let History::Transition(seq, t) = entry else { return None };
        Some(json(&(seq, t.device, t.at, t.kind, &t.contact, t.address, &t.user_agent, &t.cause)))
    });
    push(CALLS, calls().map(call_row).collect());
    push(CALL_USERS_GONE, calls().map(|call| json(&call.id)).collect());
    push(CALL_DEVICES_GONE, calls().map(|call| json(&call.id)).collect());
    let users = |call: &Call| -> Vec<String> {
        call.users.iter().map(|user| json(&(user.user, call.began_at, call.id))).collect()
    };
    push(CALL_USERS, calls().flat_map(users).collect());
    push(CALL_DEVICES, calls().flat_map(call_devices).collect());
    push(TRAIL, trail.collect());
    push(TRANSITIONS, transitions.collect());
}

fn call_row(call: &Call) -> String {
    let outcome = call.outcome.and_then(|outcome| word(&outcome));
    json(&(call.id, call.account, call.began_at, call.ended_at, call.direction, outcome, json(call)))
}

/// The devices that had to do with a call: at either end, a leg's, or a user's.
fn call_devices(call: &Call) -> Vec<String> {
    let ends = [call.caller.device, call.callee.device].into_iter().flatten();
    let legs = call.legs.iter().filter_map(|leg| leg.device);
    let users = call.users.iter().map(|user| user.device);
    ends.chain(legs).chain(users).map(|device| json(&(device, call.began_at, call.id))).collect()
}

/// Rows that are JSON already, as one JSON array.
fn array(rows: impl Iterator<Item = String>) -> String {
    let mut text = String::from("[");
    for row in rows {
        if text.len() > 1 {
            text.push(',');
        }
        text.push_str(&row);
    }
    text.push(']');
    text
}

pub(super) fn number(seq: Seq) -> i64 {
    i64::try_from(seq.0).unwrap_or(i64::MAX)
}

const KINDS: [Kind; 9] = [
    Kind::Account,
    Kind::Site,
    Kind::Pbx,
    Kind::User,
    Kind::Queue,
    Kind::Token,
    Kind::Device,
    Kind::Bindings,
    Kind::Link,
];
