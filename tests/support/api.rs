//! The HTTP API as a client sees it.

use std::net::SocketAddr;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

use super::events::Events;
use super::wait::until;

/// The API with one bearer token.
#[derive(Clone, Debug)]
pub struct Api {
    base: String,
    token: String,
    client: Client,
}

impl Api {
    /// The API at `address`.
    pub fn new(address: SocketAddr, token: &str) -> Self {
        Self { base: format!("http://{address}"), token: token.to_owned(), client: Client::new() }
    }

    /// Sends a request; the status and the JSON of the answer (null when it has none).
    pub async fn send(&self, method: Method, path: &str, body: Option<Value>) -> (StatusCode, Value) {
        let mut request = self.client.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(&body);
        }
        let answer = request.send().await.expect("the API answers");
        let status = answer.status();
        (status, answer.json().await.unwrap_or_default())
    }

    /// Reads; panics unless the answer is 2xx, as the next three do.
    pub async fn get(&self, path: &str) -> Value {
        self.succeed(Method::GET, path, None).await
    }

    /// Creates.
    pub async fn post(&self, path: &str, body: Value) -> Value {
        self.succeed(Method::POST, path, Some(body)).await
    }

    /// Puts.
    pub async fn put(&self, path: &str) -> Value {
        self.succeed(Method::PUT, path, None).await
    }

    /// Edits by merge patch.
    pub async fn patch(&self, path: &str, body: Value) -> Value {
        self.succeed(Method::PATCH, path, Some(body)).await
    }

    /// Opens an event stream.
    pub async fn events(&self, path: &str) -> Events {
        let request = self.client.get(format!("{}{path}", self.base)).bearer_auth(&self.token);
        let answer = request.send().await.expect("the API answers");
        assert!(answer.status().is_success(), "GET {path}: {}", answer.status());
        Events::read(answer)
    }

    /// The device with this extension, once it is there and in `state`.
    pub async fn device(&self, extension: &str, state: &str) -> Value {
        until(&format!("device {extension} is {state}"), async || {
            let devices = self.get("/v1/devices").await;
            let found = items(&devices).iter().find(|device| device["extension"] == extension)?.clone();
            (found["state"] == state).then_some(found)
        })
        .await
    }

    /// A new enabled user with an agent token: their id, and the API as they see it.
    pub async fn agent(&self, name: &str) -> (String, Self) {
        let user = self.post("/v1/users", json!({ "name": name, "enabled": true })).await;
        let id = text(&user["id"]);
        let token = self.post("/v1/tokens", json!({ "scope": "agent", "user": id, "label": name })).await;
        (id, Self { token: text(&token["secret"]), ..self.clone() })
    }

    /// Links a device to a user.
    pub async fn link(&self, user: &str, device: &Value) {
        self.put(&format!("/v1/users/{user}/devices/{}", text(&device["id"]))).await;
    }

    /// The device with this extension, if there is one.
    pub async fn find_device(&self, extension: &str) -> Option<Value> {
        let devices = self.get(&format!("/v1/devices?q={extension}")).await;
        items(&devices).iter().find(|device| device["extension"] == extension).cloned()
    }

    async fn succeed(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let (status, answer) = self.send(method.clone(), path, body).await;
        assert!(status.is_success(), "{method} {path}: {status} {answer:#}");
        answer
    }
}

/// The items of a page.
pub fn items(page: &Value) -> &[Value] {
    page["items"].as_array().unwrap_or_else(|| panic!("no page: {page:#}"))
}

/// A JSON string's text.
pub fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}
