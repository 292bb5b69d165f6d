//! A daemon that speaks UDP, TCP and TLS, and how SIPp gets to it.

use std::net::SocketAddr;

use serde_json::json;

use crate::support::api::{items, text};
use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::sipp::Scenario;
use crate::support::tls::Certificate;
use crate::support::tunnel::Tunnel;

/// What a phone may register over, and a PBX relay over.
pub const TRANSPORTS: [&str; 3] = ["udp", "tcp", "tls"];

/// A daemon whose `secure` is a registrar over TLS and whose `relay` is a replica over TLS.
pub struct Office {
    /// The way to `secure`, for those that have no TLS of their own.
    pub tunnel: Tunnel,
    /// The daemon.
    pub daemon: Daemon,
    /// What it shows.
    pub certificate: Certificate,
    /// Configuration, scenarios and logs.
    pub folder: Folder,
}

impl Office {
    pub async fn open(name: &str) -> Self {
        Self::open_with(name, "").await
    }

    /// The same with more configuration.
    pub async fn open_with(name: &str, more: &str) -> Self {
        let folder = Folder::new(name);
        let certificate = Certificate::make(&folder);
        let listener = |name: &str, mode: &str| {
            let settings = certificate.settings();
            format!("[listeners.{name}]\nmode = \"{mode}\"\nbind = [\"tls:127.0.0.1:0\"]\n{settings}")
        };
        let listeners = listener("secure", "registrar") + &listener("relay", "replica");
        let daemon = Daemon::start_with(&folder, &format!("{listeners}{more}")).await;
        let tunnel = Tunnel::open(&folder, daemon.listening("secure", "tls"), &certificate).await;
        Self { tunnel, daemon, certificate, folder }
    }

    /// Runs `file` for `extension` against the registrar.
    pub async fn answers(&self, transport: &str, file: &str, extension: &str) {
        let target = if transport == "tls" { self.tunnel.entrance } else { self.daemon.registrar };
        answers(&self.folder, target, transport, file, extension).await;
    }

    /// Makes a device with a password.
    pub async fn provide(&self, user: &str, password: &str) {
        let api = self.daemon.api();
        let pbx = items(&api.get("/v1/pbxs").await)[0]["id"].clone();
        let device = api.post("/v1/devices", json!({ "pbx": pbx, "user": user })).await;
        let path = format!("/v1/devices/{}/secret", text(&device["id"]));
        let (status, _) = api.send(reqwest::Method::PUT, &path, Some(json!({ "password": password }))).await;
        assert_eq!(status, 204);
    }
}

/// Runs `file` for `extension` against `target`.
pub async fn answers(folder: &Folder, target: SocketAddr, transport: &str, file: &str, extension: &str) {
    Scenario { target: Some(target), transport, service: extension, ..Scenario::new(file) }.run(folder).await;
}
