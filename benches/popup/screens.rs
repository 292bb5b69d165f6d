//! Agents, each with a phone and an open event stream.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures_util::{StreamExt as _, stream};
use serde_json::json;

use crate::calls::{call_of, extension};
use crate::support::api::{Api, items, text};
use crate::support::events::Events;

/// The event streams of all agents.
pub struct Screens(Vec<Events>);

/// What they showed.
pub struct Popups {
    /// From the phone's ring to its popup, in order of length.
    pub waits: Vec<Duration>,
    /// Popups for phones that had not rung.
    pub early: usize,
}

impl Screens {
    /// Makes agents and their phones and opens their streams.
    pub async fn open(api: &Api, agents: usize) -> Self {
        let pbxs = api.get("/v1/pbxs").await;
        let pbx = &text(&items(&pbxs)[0]["id"]);
        let each = stream::iter(0..agents).map(async |agent| {
            let device = api.post("/v1/devices", json!({ "pbx": pbx, "user": extension(agent) })).await;
            let (user, own) = api.agent(&format!("agent {agent}")).await;
            api.link(&user, &device).await;
            let events = own.events("/v1/me/popups/stream").await;
            events.wait("the stream begins", |event| event.kind == "snapshot").await;
            events
        });
        Self(each.buffer_unordered(32).collect().await)
    }

    /// The popups of calls whose phones `rang` then.
    pub fn since(&self, rang: &[Instant]) -> Popups {
        let mut first: HashMap<usize, Instant> = HashMap::new();
        for (at, event) in self.0.iter().flat_map(Events::stamped) {
            let call = event.data["caller"]["number"].as_str().and_then(call_of);
            if let Some(call) = call.filter(|_| event.kind == "offer" && event.data["state"] == "offered") {
                let known = first.entry(call).or_insert(at);
                *known = at.min(*known);
            }
        }
        let waits = first.iter().map(|(call, at)| at.checked_duration_since(rang[*call]));
        let early = waits.clone().filter(Option::is_none).count();
        let mut waits: Vec<Duration> = waits.flatten().collect();
        waits.sort_unstable();
        Popups { waits, early }
    }
}
