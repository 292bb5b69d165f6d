//! What a call leaves behind, as lines of text that can be compared and read.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::Value;

use crate::support::api::text;
use crate::watcher::Person;

/// What feeds a daemon has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feeds {
    /// The manager interface alone.
    Ami,
    /// HEP alone.
    Hep,
    /// Both.
    Both,
}

/// What a scenario must leave behind, for each set of feeds. Lines are compared without their indentation.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    both: &'static str,
    hep: Option<&'static str>,
    race: Option<&'static str>,
}

impl Feeds {
    /// Whether HEP is one of them.
    pub fn has_hep(self) -> bool {
        self != Self::Ami
    }

    /// Whether the manager interface is one of them.
    pub fn has_ami(self) -> bool {
        self != Self::Hep
    }
}

impl Expected {
    /// The same whatever feeds there are.
    pub const fn of(text: &'static str) -> Self {
        Self { both: text, hep: None, race: None }
    }

    /// With HEP alone it is this.
    pub const fn hep_alone(self, text: &'static str) -> Self {
        Self { hep: Some(text), ..self }
    }

    /// The lines for these feeds.
    pub fn lines(&self, feeds: Feeds) -> Vec<String> {
        lines(match feeds {
            Feeds::Ami | Feeds::Both => self.both,
            Feeds::Hep => self.hep.unwrap_or(self.both),
        })
    }

    /// With both it may be this as well: it depends on which of them tells first.
    pub const fn or_with_both(self, text: &'static str) -> Self {
        Self { race: Some(text), ..self }
    }

    /// What is shown; what should be when it is the other thing that may be.
    pub fn or_race(&self, feeds: Feeds, shown: Vec<String>) -> Vec<String> {
        let is_race = feeds == Feeds::Both && self.race.is_some_and(|text| lines(text) == shown);
        if is_race { self.lines(feeds) } else { shown }
    }
}

/// A call: its ends and outcome; its legs; a line for each person it had to do with; what is amiss in any case.
pub fn lines_of(call: &Value, trail: &[Value], people: &[Person], names: &BTreeMap<String, String>) -> Vec<String> {
    let name = |id: &Value| id.as_str().map_or("?", |id| names.get(id).map_or("?", String::as_str)).to_owned();
    let mut first = format!("{} {} > {}", text(&call["direction"]), party(&call["caller"]), party(&call["callee"]));
    if !call["queue"].is_null() {
        let _ = write!(first, " in {}", name(&call["queue"]));
    }
    let _ = write!(first, ": {}", call["outcome"].as_str().unwrap_or("goes on"));
    let mut legs: Vec<String> = array(&call["legs"])
        .iter()
        .map(|leg| {
            let whose = leg["device"].as_str().map(|_| format!(" {}", name(&leg["device"]))).unwrap_or_default();
            let role = text(&leg["role"]);
            // SIP tells what the trunk was refused with, the manager interface a cause; with both it is who was first.
            let end = if role.starts_with("trunk") { how(&leg["end"]) } else { end(&leg["end"]) };
            format!("{role}{whose} {end}")
        })
        .collect();
    legs.sort();
    let mut lines = vec![first, format!("legs: {}", legs.join(", "))];
    for person in people {
        let id = Value::from(person.id.as_str());
        let did = array(&call["users"]).iter().find(|user| user["user"] == id).map(|user| text(&user["action"]));
        let saw = person.saw(call);
        let why: Vec<String> =
            trail.iter().filter(|entry| entry["user"] == id).map(|entry| text(&entry["reason"])).collect();
        if did.is_some() || !saw.is_empty() || !why.is_empty() {
            let did = did.unwrap_or_else(|| "nothing".to_owned());
            lines.push(format!("{}: {did}; saw {}; {}", person.name, or_nothing(&saw), why.join(" ")));
        }
    }
    let nobody: Vec<String> =
        trail.iter().filter(|entry| entry["user"].is_null()).map(|entry| text(&entry["reason"])).collect();
    if !nobody.is_empty() {
        lines.push(format!("nobody: {}", nobody.join(" ")));
    }
    if trail.iter().any(|entry| text(&entry["event"]).is_empty()) {
        lines.push("A REASON WITHOUT AN EVENT".to_owned());
    }
    let is_open = |offer: &&Value| offer["state"] == "offered" || offer["state"] == "answered";
    if call["state"] == "ended" && array(&call["offers"]).iter().any(|offer| is_open(&offer)) {
        lines.push("AN OFFER IS OPEN AFTER THE CALL".to_owned());
    }
    lines
}

fn lines(text: &str) -> Vec<String> {
    text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

fn party(party: &Value) -> String {
    party["number"].as_str().unwrap_or("withheld").to_owned()
}

fn end(end: &Value) -> String {
    match end["status"].as_i64() {
        Some(status) => format!("{} {status}", how(end)),
        None => how(end),
    }
}

fn how(end: &Value) -> String {
    end["how"].as_str().unwrap_or("goes on").to_owned()
}

fn or_nothing(text: &str) -> &str {
    if text.is_empty() { "nothing" } else { text }
}

fn array(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}
