//! The demo's people and phones, set up the way an admin would: phones register, the API links them.

use std::net::SocketAddr;

use anyhow::Context as _;
use serde_json::{Value, json};

use hookswitch::config::Bind;

use crate::cli::api::Api;
use crate::cli::line::Line;
use crate::cli::phone::find_device;

use super::show;

/// Three people, a phone each, and a support queue two of them answer.
pub struct Office {
    /// The phones, by [`PEOPLE`]'s order.
    pub phones: Vec<Line>,
}

/// The outside number that reaches the office.
pub const OFFICE_NUMBER: &str = "+14155550199";
/// The queue's name, as the PBX writes it into `X-Queue`.
pub const QUEUE: &str = "support";
/// Name and extension of everyone.
pub const PEOPLE: [(&str, &str); 3] = [("Anna", "101"), ("Ben", "102"), ("Cleo", "103")];

impl Office {
    /// Registers the phones and links each to its user.
    pub async fn open(api: &Api, base: &str, registrar: Bind) -> anyhow::Result<Self> {
        let pbx = first(api, "/v1/pbxs").await?;
        let account = first(api, "/v1/accounts").await?;
        let queue = api.post("/v1/queues", &json!({ "pbx": pbx["id"], "name": QUEUE, "number": "500" })).await?;
        let rules = json!({ "queue_rules": [{ "match": "header", "name": "X-Queue", "value": null, "queue": null }] });
        api.patch(&path("/v1/pbxs", &pbx)?, &rules).await?;
        api.patch(&path("/v1/accounts", &account)?, &json!({ "number_plan": { "dids": [OFFICE_NUMBER] } })).await?;
        let mut phones = Vec::with_capacity(PEOPLE.len());
        for (name, extension) in PEOPLE {
            let mut line = Line::open(extension, "pbx.local", Some(name)).await?;
            line.register(registrar.address, EXPIRES_S).await?;
            phones.push(line);
            let device = find_device(api, extension).await?;
            let queues = if extension == "101" { json!([]) } else { json!([queue["id"]]) };
            let user = api.post("/v1/users", &json!({ "name": name, "enabled": true, "queues": queues })).await?;
            let user = user["id"].as_str().context("a new user has no id")?.to_owned();
            api.patch(&format!("/v1/devices/{device}"), &json!({ "label": format!("{name}'s desk") })).await?;
            api.put(&format!("/v1/users/{user}/devices/{device}")).await?;
            if extension != "101" {
                let queue = queue["id"].as_str().context("a new queue has no id")?;
                api.put_json(&format!("/v1/queues/{queue}/members/{device}"), &json!({})).await?;
            }
            let token = api.post("/v1/tokens", &json!({ "scope": "agent", "user": user, "label": "demo" })).await?;
            let secret = token["secret"].as_str().context("a new token has no secret")?;
            show::popups(&Api::new(base, secret), name).await?;
        }
        Ok(Self { phones })
    }

    /// Refreshes every registration.
    pub async fn refresh(&mut self, registrar: SocketAddr) -> anyhow::Result<()> {
        for phone in &mut self.phones {
            phone.register(registrar, EXPIRES_S).await?;
        }
        Ok(())
    }
}

async fn first(api: &Api, path: &str) -> anyhow::Result<Value> {
    let mut page = api.get(path).await?;
    page["items"].as_array_mut().and_then(|items| items.drain(..).next()).with_context(|| format!("{path} is empty"))
}

fn path(collection: &str, item: &Value) -> anyhow::Result<String> {
    Ok(format!("{collection}/{}", item["id"].as_str().context("it has no id")?))
}

const EXPIRES_S: u32 = 300;
