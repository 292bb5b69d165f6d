//! One commit's worth of rows, as the statements' parameters.

use std::borrow::Cow;

use super::cell::{json, word};
use super::commit::Item;
use super::log::without_bindings;
use super::pending::History;
use super::secrets::{Unsealed, secret_row};
use super::statements::{
    APPEND, CALL_DEVICES, CALL_DEVICES_GONE, CALL_USERS, CALL_USERS_GONE, CALLS, CALLS_GONE, FORGET, Statement, TRAIL,
    TRANSITIONS, delete, upsert,
};
use super::{Kind, Row, Seq};
use crate::model::{Account, Call, Device, Link, Pbx, Queue, Site, Token, User};
use crate::sealing::Keys;

/// A statement and its parameter.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) statement: Statement,
    pub(super) parameter: Parameter,
}

/// Many rows in one parameter, or in one a column.
#[derive(Debug)]
pub(super) enum Parameter {
    /// None.
    None,
    /// A JSON array.
    Json(String),
    /// Rows of the log.
    Log(LogRows),
    /// Above the first number, up to the second.
    Range(i64, i64),
}

/// Rows of the log, a column each.
#[derive(Debug, Default)]
pub(super) struct LogRows {
    pub(super) ids: Vec<i64>,
    pub(super) bodies: Vec<String>,
}

/// What to run for `items`, in order, inside one transaction; and the highest number of a deleted row, which no row will
/// be left to tell. Secrets are sealed with `keys`; rows of the log get about `body_bytes`.
pub(super) fn steps(
    items: &[Item],
    keys: Option<&Keys>,
    body_bytes: usize,
) -> Result<(Vec<Step>, Option<Seq>), Unsealed> {
    let mut steps = Vec::new();
    // Changes come first and in key order, so each table's are together.
    for of_kind in items.chunk_by(|a, b| a.kind() == b.kind()) {
        match of_kind.first().and_then(Item::kind) {
            Some(Kind::Bindings) => {
                let parameter = Parameter::Log(LogRows::of(of_kind, body_bytes));
                steps.push(Step { statement: APPEND, parameter });
            }
            Some(kind) => record_steps(kind, of_kind, keys, &mut steps)?,
            None => {}
        }
    }
    history_steps(items, &mut steps);
    steps.extend(items.iter().filter_map(|item| match item {
        Item::Forget { head, last } => Some(Step { statement: FORGET, parameter: Parameter::Range(*head, *last) }),
        _ => None,
    }));
    let deleted = items.iter().filter_map(|item| match item {
        Item::Change { row: None, span, .. } => Some(Seq(span.last)),
        _ => None,
    });
    Ok((steps, deleted.max()))
}

impl Parameter {
    /// How many executions `SQLite` needs.
    pub(super) fn rows(&self) -> usize {
        match self {
            Self::None | Self::Json(_) | Self::Range(..) => 1,
            Self::Log(rows) => rows.ids.len(),
        }
    }
}

impl LogRows {
    /// A row's id is the place of its first line, and so its own however a commit is divided.
    fn of(items: &[Item], body_bytes: usize) -> Self {
        let mut rows = Self::default();
        for item in items {
            let Item::Change { key, row, span, place } = item else { continue };
            let line = match row {
                Some(Row::Bindings { line, .. }) => Cow::Borrowed(line.as_str()),
                _ => Cow::Owned(without_bindings(key.id, Seq(span.last))),
            };
            match rows.bodies.last_mut() {
                Some(body) if body.len() + line.len() < body_bytes => {
                    body.push('\n');
                    body.push_str(&line);
                }
                _ => {
                    let mut body = String::with_capacity(body_bytes.max(line.len()));
                    body.push_str(&line);
                    rows.ids.push(*place);
                    rows.bodies.push(body);
                }
            }
        }
        rows
    }
}

fn record_steps(kind: Kind, items: &[Item], keys: Option<&Keys>, steps: &mut Vec<Step>) -> Result<(), Unsealed> {
    let changes = || {
        items.iter().filter_map(|item| match item {
            Item::Change { key, row, .. } => Some((key, row)),
            _ => None,
        })
    };
    let gone: Vec<String> = changes().filter(|(_, row)| row.is_none()).map(|(key, _)| key.id.to_string()).collect();
    if !gone.is_empty() {
        steps.push(Step { statement: delete(kind), parameter: Parameter::Json(json(&gone)) });
    }
    let rows = changes().filter_map(|(_, row)| row.as_ref()).map(|row| record_row(row, keys));
    let rows = rows.collect::<Result<Vec<String>, Unsealed>>()?;
    if !rows.is_empty() {
        steps.push(Step { statement: upsert(kind), parameter: Parameter::Json(array(rows.into_iter())) });
    }
    Ok(())
}

/// One row as a JSON array, in the order of the statement's columns.
fn record_row(row: &Row, keys: Option<&Keys>) -> Result<String, Unsealed> {
    Ok(match row {
        Row::Account(row) => account_row(&row.value, row.seq),
        Row::Site(row) => site_row(&row.value, row.seq),
        Row::Pbx(row) => pbx_row(&row.value, row.seq),
        Row::User(row) => user_row(&row.value, row.seq),
        Row::Queue(row) => queue_row(&row.value, row.seq),
        Row::Token(row) => token_row(&row.value, row.seq),
        Row::Device(row) => device_row(&row.value, row.seq),
        Row::Secret(row) => secret_row(&row.value, row.seq, keys)?,
        Row::Link(row) => link_row(&row.value, row.seq),
        // Not a table's; see [`LogRows`].
        Row::Bindings { line, seq } => json(&(line, seq)),
    })
}

fn account_row(a: &Account, seq: Seq) -> String {
    let (domains, number_plan, settings) = (json(&a.domains), json(&a.number_plan), json(&a.settings));
    json(&(a.id, a.parent, &a.name, domains, number_plan, settings, a.created_at, seq))
}

fn site_row(s: &Site, seq: Seq) -> String {
    json(&(s.id, s.account, &s.name, s.created_at, seq))
}

fn pbx_row(p: &Pbx, seq: Seq) -> String {
    let (aliases, networks, rules) = (json(&p.aliases), json(&p.networks), json(&p.queue_rules));
    let (expires, grace) = (p.passive_expires_max_s, p.passive_grace_s);
    let (name, domain, any) = (&p.name, &p.domain, p.any_domain);
    let (control, created_at) = (p.control, p.created_at);
    json(&(
        p.id, p.account, p.site, name, domain, aliases, any, networks, expires, grace, rules, control, created_at, seq,
    ))
}

fn user_row(u: &User, seq: Seq) -> String {
    let (queues, parked) = (json(&u.queues), json(&u.parked));
    let (login, created_at) = (u.queue_login, u.created_at);
    json(&(u.id, u.account, &u.email, &u.name, u.enabled, u.dnd, u.pop_on, queues, login, parked, created_at, seq))
}

fn queue_row(q: &Queue, seq: Seq) -> String {
    let (members, reported, absent) = (json(&q.members), q.reported, q.absent_since);
    json(&(q.id, q.account, q.pbx, &q.name, &q.number, members, reported, absent, q.created_at, seq))
}

fn token_row(t: &Token, seq: Seq) -> String {
    json(&(t.id, t.account, t.scope, t.user, t.pbx, &t.label, &t.hash, t.created_at, t.expires_at, seq))
}

fn device_row(d: &Device, seq: Seq) -> String {
    let (extension, label, caller_id) = (&d.extension, &d.label, &d.caller_id);
    let (seen, created) = (d.last_seen_at, d.created_at);
    json(&(
        d.id,
        d.account,
        d.pbx,
        &d.user,
        extension,
        label,
        caller_id,
        d.enabled,
        d.assignable,
        &d.last_caller,
        seen,
        created,
        seq,
    ))
}

fn link_row(l: &Link, seq: Seq) -> String {
    json(&(l.id, l.account, l.device, l.user, l.began_at, l.ended_at, seq))
}

fn history_steps(items: &[Item], steps: &mut Vec<Step>) {
    let mut push = |statement: Statement, rows: Vec<String>| {
        if !rows.is_empty() {
            steps.push(Step { statement, parameter: Parameter::Json(array(rows.into_iter())) });
        }
    };
    let history = || items.iter().filter_map(|item| if let Item::History(entry) = item { Some(entry) } else { None });
    let written =
        || history().filter_map(|entry| if let History::Call(_, call) = entry { Some(&**call) } else { None });
    let calls = || written().filter(|call| !call.is_void());
    let trail = history().filter_map(|entry| {
        let History::Trail(seq, e) = entry else { return None };
        Some(json(&(seq, e.call, e.position, e.at, e.user, e.reason, e.device, e.queue, e.sessions, &e.event)))
    });
    let transitions = history().filter_map(|entry| {
        let History::Transition(seq, t) = entry else { return None };
        Some(json(&(seq, t.device, t.at, t.kind, &t.contact, t.address, &t.user_agent, &t.cause)))
    });
    push(CALLS_GONE, written().filter(|call| call.is_void()).map(|call| json(&call.id)).collect());
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
pub(super) fn array(rows: impl Iterator<Item = String>) -> String {
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
