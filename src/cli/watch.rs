//! `hookswitch watch`: my popups, as a client gets them.

use std::time::Duration;

use serde_json::Value;

use hookswitch::config::Config;

use super::sse::Event;
use super::{Access, say, until_stopped};

/// Arguments of `watch`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    access: Access,
}

/// Prints popups until Ctrl-C; comes back by itself when the daemon was away.
pub async fn run(config: &Config, arguments: Arguments) -> anyhow::Result<()> {
    let api = arguments.access.open(config)?;
    let me = api.get("/v1/me").await?;
    if me["user"].is_null() {
        anyhow::bail!("this token speaks for no user, so it has no popups");
    }
    say(format_args!("watching for {}; Ctrl-C ends it", me["user"]["name"].as_str().unwrap_or("?")))?;
    until_stopped(async {
        loop {
            if let Err(error) = follow(&api).await {
                say(format_args!("the stream is gone ({error:#}); trying again"))?;
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    })
    .await
}

/// A popup in one line; none for what shows nothing.
pub fn line(offer: &Value) -> Option<String> {
    let state = offer["state"].as_str()?;
    let caller = &offer["caller"];
    let who = match (caller["name"].as_str(), caller["number"].as_str()) {
        (Some(name), Some(number)) => format!("{name}, {number}"),
        (None, Some(number)) => number.to_owned(),
        (Some(name), None) => name.to_owned(),
        (None, None) => "number withheld".to_owned(),
    };
    let who = if offer["direction"] == "outbound" {
        format!("to {}", offer["callee"]["number"].as_str().unwrap_or("?"))
    } else {
        format!("from {who}")
    };
    Some(match state {
        "offered" => format!("POPUP    call {who}"),
        "answered" => format!("answered call {who}"),
        "rescinded" => format!("closed   call {who}: {}", offer["reason"].as_str().unwrap_or("?")),
        _ => format!("ended    call {who}"),
    })
}

async fn follow(api: &super::api::Api) -> anyhow::Result<()> {
    let mut stream = api.stream("/v1/me/popups/stream").await?;
    while let Some(Event { kind, data, .. }) = stream.next().await? {
        let value: Value = serde_json::from_str(&data).unwrap_or_default();
        let offers =
            if kind == "snapshot" { value["offers"].as_array().cloned().unwrap_or_default() } else { vec![value] };
        for text in offers.iter().filter_map(line) {
            say(format_args!("{text}"))?;
        }
    }
    anyhow::bail!("the daemon closed it")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_popup_is_one_line_that_names_the_caller() {
        let mut offer = json!({"state": "offered", "direction": "inbound", "caller": {"number": "+14155550100"}});
        assert_eq!(line(&offer).unwrap(), "POPUP    call from +14155550100");
        offer["state"] = "rescinded".into();
        offer["reason"] = "caller_hangup".into();
        assert_eq!(line(&offer).unwrap(), "closed   call from +14155550100: caller_hangup");
        offer["caller"] = json!({"withheld": true});
        assert_eq!(line(&offer).unwrap(), "closed   call from number withheld: caller_hangup");
        assert_eq!(line(&json!({})), None);
    }
}
