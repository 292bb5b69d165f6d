//! `hookswitch why`: why calls popped or did not, as their trails say.

use std::collections::HashMap;

use anyhow::Context as _;
use jiff::Timestamp;
use serde_json::Value;

use hookswitch::config::Config;
use hookswitch::model::CallId;

use super::api::Api;
use super::{Access, say};

/// Arguments of `why`. An agent's token shows the calls of its user.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Id of the call; without it the latest ones.
    call: Option<CallId>,
    /// Calls of the phone with this extension.
    #[arg(long, value_name = "EXTENSION", conflicts_with = "call")]
    extension: Option<String>,
    /// How many calls.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=500))]
    last: u16,
    #[command(flatten)]
    access: Access,
}

/// Prints each call and, in the order they were decided, the reasons for and against its popups.
pub async fn run(config: &Config, arguments: Arguments) -> anyhow::Result<()> {
    let mut asked = Asked::new(arguments.access.open(config)?).await?;
    let calls = asked.calls(&arguments).await?;
    if calls.is_empty() {
        return say("no call is known; `feeds` of GET /v1/pbxs says whether any feed shows calls");
    }
    for call in &calls {
        let trail = asked.api.get(&format!("/v1/calls/{}/trail", id(&call["id"]))).await?;
        say(head(call))?;
        let entries = items(&trail);
        if entries.is_empty() {
            say("  no reasons: nothing was decided yet, or it is longer ago than retention.trails_days")?;
        }
        for entry in entries {
            let who = asked.name("/v1/users/", "name", &entry["user"]).await;
            let device = asked.name("/v1/devices/", "extension", &entry["device"]).await;
            say(line(entry, &who, &device))?;
        }
    }
    Ok(())
}

/// The API, and what it has said of ids so far.
struct Asked {
    api: Api,
    is_agent: bool,
    names: HashMap<String, String>,
}

impl Asked {
    async fn new(api: Api) -> anyhow::Result<Self> {
        let me = api.get("/v1/me").await?;
        let mut names = HashMap::new();
        let mut learn = |of: &Value, name: &Value| names.insert(id(of).to_owned(), id(name).to_owned());
        learn(&me["user"]["id"], &me["user"]["name"]);
        let is_agent = me["scope"] == "agent";
        if is_agent {
            // Others' names are not for an agent to see.
            for device in items(&api.get("/v1/me/devices").await?) {
                learn(&device["id"], &device["extension"]);
            }
        }
        Ok(Self { api, is_agent, names })
    }

    async fn calls(&self, arguments: &Arguments) -> anyhow::Result<Vec<Value>> {
        if let Some(call) = arguments.call {
            return Ok(vec![self.api.get(&format!("/v1/calls/{call}")).await?]);
        }
        let mut path = format!("/v1/calls?limit={}", arguments.last);
        if let Some(extension) = &arguments.extension {
            path = format!("{path}&device={}", self.device(extension).await?);
        }
        Ok(items(&self.api.get(&path).await?).to_vec())
    }

    /// The id of the device with this extension.
    async fn device(&self, extension: &str) -> anyhow::Result<String> {
        let path = if self.is_agent {
            "/v1/me/devices".to_owned()
        } else {
            format!("/v1/devices?limit=500&q={}", escaped(extension))
        };
        let page = self.api.get(&path).await?;
        let found = items(&page).iter().find(|device| device["extension"] == extension);
        let found = found.with_context(|| {
            format!(
                "no phone {extension} is known; `hookswitch why` without --extension shows calls of phones that are not"
            )
        })?;
        Ok(id(&found["id"]).to_owned())
    }

    /// What a person knows this id by; the id itself where it is gone, or is not for this token to see.
    async fn name(&mut self, path: &str, field: &str, of: &Value) -> String {
        let of = id(of);
        if of == NOBODY {
            return of.to_owned();
        }
        if let Some(name) = self.names.get(of) {
            return name.clone();
        }
        let found = self.api.get(&format!("{path}{of}")).await.unwrap_or_default();
        let name = found[field].as_str().unwrap_or(of).to_owned();
        self.names.insert(of.to_owned(), name.clone());
        name
    }
}

/// A call in one line.
fn head(call: &Value) -> String {
    let party = |party: &Value| match (party["number"].as_str(), party["withheld"] == true) {
        (_, true) => "number withheld".to_owned(),
        (number, _) => number.unwrap_or("?").to_owned(),
    };
    format!(
        "{}  {}  {} → {}  {}  {}",
        time(&call["began_at"], "%Y-%m-%d %H:%M:%S"),
        id(&call["direction"]),
        party(&call["caller"]),
        party(&call["callee"]),
        call["outcome"].as_str().unwrap_or_else(|| id(&call["state"])),
        id(&call["id"])
    )
}

/// A reason in one line.
fn line(entry: &Value, who: &str, device: &str) -> String {
    let at = time(&entry["at"], "%H:%M:%S%.3f");
    let (reason, sessions) = (id(&entry["reason"]), entry["sessions"].as_u64().unwrap_or_default());
    format!("  {at}  {who}  {reason}  phone {device}, sessions {sessions}: {}", id(&entry["event"]))
}

fn items(page: &Value) -> &[Value] {
    page["items"].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn id(value: &Value) -> &str {
    value.as_str().unwrap_or(NOBODY)
}

/// A moment in UTC.
fn time(at: &Value, format: &str) -> String {
    let at = at.as_i64().and_then(|at| Timestamp::from_millisecond(at).ok());
    at.map_or_else(|| "?".to_owned(), |at| at.strftime(format).to_string())
}

/// For a query (RFC 3986 §2.1): extensions may hold `+`, `*` and `#`.
fn escaped(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

const NOBODY: &str = "-";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_call_and_a_reason_are_one_line_each_and_a_withheld_number_is_said_to_be() {
        let mut call = json!({ "id": "c", "direction": "inbound", "state": "ringing", "outcome": null, "began_at": 0 });
        call["caller"] = json!({ "number": "+14155550100", "withheld": false });
        call["callee"] = json!({ "number": "101", "withheld": false });
        assert_eq!(head(&call), "1970-01-01 00:00:00  inbound  +14155550100 → 101  ringing  c");
        call["outcome"] = "missed".into();
        call["caller"] = json!({ "number": null, "withheld": true });
        assert_eq!(head(&call), "1970-01-01 00:00:00  inbound  number withheld → 101  missed  c");
        let entry = json!({ "at": 1, "reason": "dnd", "sessions": 2, "event": "180 Ringing" });
        assert_eq!(line(&entry, "Anna", "101"), "  00:00:00.001  Anna  dnd  phone 101, sessions 2: 180 Ringing");
    }

    #[test]
    fn what_means_something_in_a_query_is_escaped() {
        assert_eq!(escaped("101"), "101");
        assert_eq!(escaped("*+#9"), "%2A%2B%239");
    }
}
