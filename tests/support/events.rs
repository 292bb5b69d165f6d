//! An event stream (`text/event-stream`) as a browser reads it.

use std::sync::{Arc, Mutex};
use std::time::Instant;

use serde_json::Value;
use tokio::task::JoinHandle;

use super::wait::until;

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its id.
    pub id: String,
    /// Its name.
    pub kind: String,
    /// Its JSON.
    pub data: Value,
}

/// Everything a stream has said since it was opened.
#[derive(Debug)]
pub struct Events {
    seen: Arc<Mutex<Vec<(Instant, Event)>>>,
    reader: JoinHandle<()>,
}

impl Events {
    /// Reads `answer` until it ends or this is dropped.
    pub fn read(answer: reqwest::Response) -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let reader = tokio::spawn(keep(answer, Arc::clone(&seen)));
        Self { seen, reader }
    }

    /// All events so far.
    pub fn seen(&self) -> Vec<Event> {
        self.stamped().into_iter().map(|(_, event)| event).collect()
    }

    /// All events so far, and when each was read.
    pub fn stamped(&self) -> Vec<(Instant, Event)> {
        self.seen.lock().expect("the reader does not panic").clone()
    }

    /// The data of all events of this kind so far.
    pub fn of(&self, kind: &str) -> Vec<Value> {
        self.seen().into_iter().filter(|event| event.kind == kind).map(|event| event.data).collect()
    }

    /// Waits for an event.
    pub async fn wait(&self, what: &str, matches: impl Fn(&Event) -> bool) -> Event {
        until(what, async || self.seen().into_iter().find(&matches)).await
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

async fn keep(mut answer: reqwest::Response, seen: Arc<Mutex<Vec<(Instant, Event)>>>) {
    let mut buffer = Vec::new();
    while let Ok(Some(chunk)) = answer.chunk().await {
        buffer.extend_from_slice(&chunk);
        while let Some(end) = buffer.windows(2).position(|pair| pair == b"\n\n") {
            let frame: Vec<u8> = buffer.drain(..end + 2).collect();
            if let Some(event) = event(&String::from_utf8_lossy(&frame)) {
                seen.lock().expect("nobody panics with it").push((Instant::now(), event));
            }
        }
    }
}

/// The event of a frame; none when it is a comment or a retry time.
fn event(frame: &str) -> Option<Event> {
    let field = |name: &str| {
        let lines = frame.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let values: Vec<&str> = lines.map(|value| value.strip_prefix(' ').unwrap_or(value)).collect();
        (!values.is_empty()).then(|| values.join("\n"))
    };
    let data = field("data")?;
    Some(Event {
        id: field("id").unwrap_or_default(),
        kind: field("event").unwrap_or_else(|| "message".to_owned()),
        data: serde_json::from_str(&data).unwrap_or(Value::String(data)),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn comments_are_no_events_and_data_is_json() {
        assert_eq!(event(": heartbeat\n\n"), None);
        assert_eq!(event("retry: 2000\n\n"), None);
        let read = event("id: 1-2\nevent: offer\ndata: {\"a\":1}\n\n");
        assert_eq!(read, Some(Event { id: "1-2".into(), kind: "offer".into(), data: json!({"a": 1}) }));
    }
}
