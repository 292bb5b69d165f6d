//! docs/proxy.md, with the real nginx between a browser and the daemon.

use std::net::SocketAddr;
use std::process::Command;

use hookswitch::config::Config;
use reqwest::Method;
use reqwest::header::HeaderMap;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::client::TlsStream;

use crate::page::Page;
use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::ports::Ports;
use crate::support::process::Process;
use crate::support::tls::Certificate;
use crate::support::wait::until;

/// nginx with the lines of the page, in front of a daemon with the keys of the page.
struct Proxied {
    daemon: Daemon,
    certificate: Certificate,
    address: SocketAddr,
    _nginx: Process,
    _ports: Ports,
}

impl Proxied {
    /// `without` is a line that is left out of nginx's.
    async fn start(folder: &Folder, without: &str) -> Self {
        let page = Page::read("docs/proxy.md");
        let settings = page.blocks("toml").next().expect("it shows our side");
        let config = Config::parse(settings, std::iter::empty()).expect("it is good");
        assert!(config.http.allowed_origins.admit("https://crm.example") && config.http.trusted_proxies.len() == 2);
        let environment = vec![
            ("HOOKSWITCH_HTTP__TRUSTED_PROXIES", "127.0.0.1,::1".to_owned()),
            ("HOOKSWITCH_HTTP__ALLOWED_ORIGINS", "https://crm.example".to_owned()),
        ];
        let daemon = Daemon::start_in(folder, "", environment).await;
        let (certificate, ports) = (Certificate::make(folder), Ports::take());
        let address = ports.address(0);
        let lines = page.blocks("nginx").next().expect("it shows nginx's side");
        let server = lines
            .lines()
            .filter(|line| without.is_empty() || line.trim() != without)
            .collect::<Vec<_>>()
            .join("\n")
            .replace("listen 443 ssl", &format!("listen {address} ssl"))
            .replace("/etc/ssl/hookswitch.crt", &certificate.chain)
            .replace("/etc/ssl/hookswitch.key", &certificate.key)
            .replace("127.0.0.1:8080", &daemon.http.to_string());
        let here = folder.path().display();
        let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
        let temporary = temporary.map(|kind| format!("{kind}_temp_path {here}/nginx-{kind};\n")).concat();
        let config = format!(
            "daemon off;\nworker_processes 1;\npid {here}/nginx.pid;\nerror_log stderr;\nevents {{}}\n\
             http {{\naccess_log off;\n{temporary}{server}\n}}\n"
        );
        let config = folder.write("nginx.conf", config);
        let mut command = Command::new("/usr/sbin/nginx");
        command.args(["-e", "stderr", "-p"]).arg(folder.path()).arg("-c").arg(config);
        let mut nginx = Process::start("nginx", &mut command, &folder.join("nginx.log"));
        until("nginx listens", async || {
            nginx.assert_runs();
            TcpStream::connect(address).await.ok()
        })
        .await;
        Self { daemon, certificate, address, _nginx: nginx, _ports: ports }
    }

    /// Sends a request through nginx, over TLS, from an address of our own.
    async fn request(&self, from: &str, path: &str, headers: &str) -> TlsStream<TcpStream> {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        let stream = socket.connect(self.address).await.unwrap();
        let mut stream = self.certificate.shake(stream).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: hookswitch.example\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    }
}

/// Reads until `text` is there; what has been read.
async fn read_until(stream: &mut TlsStream<TcpStream>, text: &str) -> String {
    let mut read = Vec::new();
    let reading = async {
        let mut piece = [0; 4096];
        while !String::from_utf8_lossy(&read).contains(text) {
            let length = stream.read(&mut piece).await.unwrap();
            assert!(length > 0, "it ended before {text:?}:\n{}", String::from_utf8_lossy(&read));
            read.extend_from_slice(&piece[..length]);
        }
    };
    let ended = tokio::time::timeout(crate::support::wait::PATIENCE, reading).await;
    let read = String::from_utf8_lossy(&read).into_owned();
    assert!(ended.is_ok(), "waited in vain for {text:?}:\n{read}");
    read
}

async fn a_popup_comes_through(without: &str) {
    let folder = Folder::new("docs-proxy");
    let proxied = Proxied::start(&folder, without).await;
    let token = proxied.daemon.token();
    let headers = format!("Authorization: Bearer {token}\r\nAccept: text/event-stream\r\n");
    let mut stream = proxied.request("127.0.0.1", "/v1/me/popups/stream", &headers).await;
    let opened = read_until(&mut stream, "event: snapshot").await;
    assert!(opened.starts_with("HTTP/1.1 200 "), "{opened}");
    // The stream stays open, so what a proxy kept back would never come.
    let mut phone = super::beside(&proxied.daemon, &["phone", "101", "--token", &token]);
    let _phone = Process::start("phone", &mut phone, &folder.join("phone.log"));
    proxied.daemon.api().device("101", "connected").await;
    until("the phone is linked", async || {
        let linked = proxied.daemon.api().get("/v1/devices?linked=true").await;
        (!crate::support::api::items(&linked).is_empty()).then_some(())
    })
    .await;
    let mut ring = super::beside(&proxied.daemon, &["ring", "101", "--from", "+14155550100", "--answer-after", "0"]);
    let _ring = Process::start("ring", &mut ring, &folder.join("ring.log"));
    read_until(&mut stream, "+14155550100").await;
}

#[tokio::test]
async fn a_popup_comes_through_nginx_at_once() {
    a_popup_comes_through("").await;
}

#[tokio::test]
async fn a_popup_comes_through_an_nginx_that_buffers() {
    a_popup_comes_through("proxy_buffering off;").await;
}

#[tokio::test]
async fn the_client_behind_nginx_is_known_and_none_can_be_made_up() {
    let folder = Folder::new("docs-proxy");
    let proxied = Proxied::start(&folder, "").await;
    let forged = "X-Forwarded-For: 203.0.113.66\r\n";
    let mut refused = proxied.request("127.0.0.9", "/v1/users", forged).await;
    read_until(&mut refused, "HTTP/1.1 401 ").await;
    let direct = reqwest::Client::builder().local_address(Some([127, 0, 0, 10].into())).build().unwrap();
    let direct = direct.get(format!("http://{}/v1/users", proxied.daemon.http));
    let answer = direct.header("X-Forwarded-For", "203.0.113.67").send().await.unwrap();
    assert_eq!(answer.status(), 401);
    for client in ["127.0.0.9", "127.0.0.10"] {
        until(&format!("{client} is in the log"), async || {
            proxied.daemon.output().contains(&format!("\"client\":\"{client}\"")).then_some(())
        })
        .await;
    }
    assert!(!proxied.daemon.output().contains("203.0.113"), "what clients make up is not believed");
}

#[tokio::test]
async fn only_the_pages_that_are_named_may_call_the_api() {
    let folder = Folder::new("docs-cors");
    let allowed = vec![("HOOKSWITCH_HTTP__ALLOWED_ORIGINS", "https://crm.example".to_owned())];
    let daemon = Daemon::start_in(&folder, "", allowed).await;
    let ask = async |method: Method, origin: &str| -> (u16, HeaderMap) {
        let request = reqwest::Client::new().request(method, format!("http://{}/v1/users", daemon.http));
        let request = request.header("Origin", origin).header("Authorization", format!("Bearer {}", daemon.token()));
        let request = request.header("Access-Control-Request-Method", "PATCH");
        let answer = request.header("Access-Control-Request-Headers", "authorization,if-match").send().await.unwrap();
        (answer.status().as_u16(), answer.headers().clone())
    };
    let named = |headers: &HeaderMap, name: &str| {
        headers.get(name).map(|value| value.to_str().unwrap().to_ascii_lowercase()).unwrap_or_default()
    };
    let (status, headers) = ask(Method::OPTIONS, "https://crm.example").await;
    assert_eq!((status, &*named(&headers, "access-control-allow-origin")), (200, "https://crm.example"));
    assert!(named(&headers, "access-control-allow-methods").contains("patch"), "{headers:?}");
    let lets = named(&headers, "access-control-allow-headers");
    assert!(["authorization", "if-match", "last-event-id"].iter().all(|name| lets.contains(name)), "{lets}");
    let (status, headers) = ask(Method::GET, "https://crm.example").await;
    assert_eq!((status, &*named(&headers, "access-control-allow-origin")), (200, "https://crm.example"));
    assert!(named(&headers, "access-control-expose-headers").contains("etag"), "{headers:?}");
    for method in [Method::OPTIONS, Method::GET] {
        let (_, headers) = ask(method, "https://elsewhere.example").await;
        assert_eq!(named(&headers, "access-control-allow-origin"), "", "{headers:?}");
    }
}
