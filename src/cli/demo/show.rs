//! Prints what the daemon's event streams say.

use serde_json::Value;

use crate::cli::api::Api;
use crate::cli::say;
use crate::cli::sse::EventStream;
use crate::cli::watch;

/// Prints devices and calls, as admins watch them.
pub async fn admin(api: &Api) -> anyhow::Result<()> {
    let stream = api.stream("/v1/events").await?;
    tokio::spawn(follow(stream, |kind, value| {
        let text = match kind.split_once('.') {
            Some(("device", what @ ("created" | "up" | "down"))) => {
                Some(format!("device   {} is {}", extension(value), if what == "created" { "new" } else { what }))
            }
            Some(("call", _)) => call(value),
            _ => None,
        };
        if let Some(text) = text {
            let _ = say(format_args!("   {text}"));
        }
    }));
    Ok(())
}

/// Prints a user's popups.
pub async fn popups(api: &Api, name: &'static str) -> anyhow::Result<()> {
    let stream = api.stream("/v1/me/popups/stream").await?;
    tokio::spawn(follow(stream, move |kind, value| {
        if let Some(line) = (kind == "offer").then(|| watch::line(value)).flatten() {
            let _ = say(format_args!("      {name:<5} {line}"));
        }
    }));
    Ok(())
}

async fn follow(mut stream: EventStream, print: impl Fn(&str, &Value) + Send) {
    // The stream ends with the daemon, and this with it.
    while let Ok(Some(event)) = stream.next().await {
        if let Ok(value) = serde_json::from_str(&event.data) {
            print(&event.kind, &value);
        }
    }
}

fn extension(device: &Value) -> &str {
    device["extension"].as_str().or_else(|| device["user"].as_str()).unwrap_or("?")
}

fn call(call: &Value) -> Option<String> {
    let party = |key: &str| call[key]["number"].as_str().unwrap_or("withheld").to_owned();
    let state = match (call["state"].as_str()?, call["outcome"].as_str()) {
        ("ended", Some(outcome)) => format!("over: {outcome}"),
        (state, _) => state.to_owned(),
    };
    let direction = call["direction"].as_str()?;
    Some(format!("call     {direction} {} → {}: {state}", party("caller"), party("callee")))
}
