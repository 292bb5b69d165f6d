//! The HTTP API, as the small built-in commands use it.

use std::net::SocketAddr;

use anyhow::{Context as _, anyhow};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;

use super::sse::EventStream;

/// A client with one token.
#[derive(Clone, Debug)]
pub struct Api {
    base: String,
    token: String,
    client: reqwest::Client,
}

impl Api {
    /// Talks to the API at `base` (`http://127.0.0.1:8080`).
    pub fn new(base: &str, token: &str) -> Self {
        let base = base.trim_end_matches('/').to_owned();
        Self { base, token: token.to_owned(), client: reqwest::Client::new() }
    }

    /// Where a daemon that listens on `address` is reached from this host.
    pub fn base_of(address: SocketAddr) -> String {
        let reachable = match address.ip() {
            ip if !ip.is_unspecified() => ip,
            ip if ip.is_ipv4() => std::net::Ipv4Addr::LOCALHOST.into(),
            _ => std::net::Ipv6Addr::LOCALHOST.into(),
        };
        format!("http://{}", SocketAddr::new(reachable, address.port()))
    }

    /// Reads a resource.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        json(self.send(self.request(Method::GET, path)).await?).await
    }

    /// Creates something.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        json(self.send(self.request(Method::POST, path).json(body)).await?).await
    }

    /// Puts something in its place; the path says it all.
    pub async fn put(&self, path: &str) -> anyhow::Result<Value> {
        json(self.send(self.request(Method::PUT, path)).await?).await
    }

    /// Puts `body` in its place.
    pub async fn put_json(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        json(self.send(self.request(Method::PUT, path).json(body)).await?).await
    }

    /// Changes what `body` names (merge-patch).
    pub async fn patch(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let request = self.request(Method::PATCH, path).header("content-type", "application/merge-patch+json");
        json(self.send(request.body(body.to_string())).await?).await
    }

    /// Opens an event stream.
    pub async fn stream(&self, path: &str) -> anyhow::Result<EventStream> {
        let request = self.request(Method::GET, path).header("accept", "text/event-stream");
        Ok(EventStream::new(self.send(request).await?))
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.base)).bearer_auth(&self.token)
    }

    async fn send(&self, request: RequestBuilder) -> anyhow::Result<Response> {
        let response = request.send().await.with_context(|| {
            format!("can't reach the API at {}; is `hookswitch` running? (--url names another address)", self.base)
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let text = response.text().await.unwrap_or_default();
        let problem: Value = serde_json::from_str(&text).unwrap_or_default();
        let said = problem["detail"].as_str().or_else(|| problem["title"].as_str()).unwrap_or(&text);
        Err(anyhow!("the API answered {status}: {said}"))
    }
}

async fn json(response: Response) -> anyhow::Result<Value> {
    let text = response.text().await.context("the API's answer broke off")?;
    if text.is_empty() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&text).context("the API's answer is no JSON")
}
