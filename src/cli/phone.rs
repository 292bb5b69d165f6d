//! `hookswitch phone`: a phone to try things with. It registers over SIP and is linked to the token's user.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;

use hookswitch::config::{Config, Mode};
use hookswitch::sip::{Method, scan};

use super::api::Api;
use super::line::{Line, kind};
use super::ring::listener;
use super::{Access, say, until_stopped};

/// Arguments of `phone`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The extension it registers.
    extension: String,
    #[command(flatten)]
    access: Access,
    /// Only register; link it to nobody. Needs no token.
    #[arg(long)]
    no_link: bool,
    /// Where the registrar listens (UDP); by default as the configuration says.
    #[arg(long, value_name = "ADDRESS")]
    registrar: Option<SocketAddr>,
    /// Seconds to register for; refreshed in time.
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    expires: u32,
}

/// Registers, links, and stays until Ctrl-C.
pub async fn run(config: &Config, arguments: Arguments) -> anyhow::Result<()> {
    let api = if arguments.no_link { None } else { Some(arguments.access.open(config)?) };
    if let Some(api) = &api {
        // A token that is refused must not leave a phone behind.
        api.get("/v1/me").await?;
    }
    let registrar = match arguments.registrar {
        Some(address) => address,
        None => {
            listener(config, Mode::Registrar).context("no registrar listens on UDP; --registrar says where one does")?
        }
    };
    let local = source_for(registrar).await?;
    let mut line = Line::open_at(&arguments.extension, "pbx.local", None, local).await?;
    let granted = line.register(registrar, arguments.expires).await?;
    say(format_args!("{} is registered at {registrar} for {granted} s, as {}", arguments.extension, line.address()))?;
    if let Some(api) = &api {
        say(format_args!("{}", link_to_me(api, &arguments.extension).await?))?;
    }
    say("Ctrl-C ends it")?;
    until_stopped(stay(&mut line, registrar, arguments.expires, granted)).await?;
    line.register(registrar, 0).await?;
    say(format_args!("{} is gone", arguments.extension))?;
    Ok(())
}

/// Links the device with this extension to the token's own user, who is thereby found by its calls.
pub async fn link_to_me(api: &Api, extension: &str) -> anyhow::Result<String> {
    let me = api.get("/v1/me").await?;
    let name = me["user"]["name"].as_str().context("this token speaks for no user, so nobody's screen would pop")?;
    let device = find_device(api, extension).await?;
    api.put(&format!("/v1/me/devices/{device}")).await?;
    Ok(format!("it is linked to {name}: what rings it pops for them"))
}

/// The id of the device with exactly this extension.
pub async fn find_device(api: &Api, extension: &str) -> anyhow::Result<String> {
    let page = api.get(&format!("/v1/devices?q={extension}&limit=100")).await?;
    let devices = page["items"].as_array().map(Vec::as_slice).unwrap_or_default();
    let ours = devices.iter().find(|device: &&Value| device["extension"].as_str() == Some(extension));
    let id = ours.and_then(|device| device["id"].as_str());
    Ok(id.with_context(|| format!("the API knows no device {extension}"))?.to_owned())
}

/// The local address from which `destination` is reached. Connecting a UDP socket sends nothing.
pub async fn source_for(destination: SocketAddr) -> anyhow::Result<std::net::IpAddr> {
    let any: SocketAddr = if destination.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0_u16; 8], 0).into() };
    let probe = tokio::net::UdpSocket::bind(any).await.context("no free UDP port")?;
    probe.connect(destination).await.with_context(|| format!("no way to {destination}"))?;
    Ok(probe.local_addr()?.ip())
}

/// Refreshes the registration and answers what is sent to the phone.
async fn stay(line: &mut Line, registrar: SocketAddr, expires_s: u32, mut granted_s: u32) -> anyhow::Result<()> {
    let tag = super::line::random()?;
    loop {
        let refresh = Duration::from_secs(u64::from(granted_s / 2).max(1));
        let deadline = tokio::time::Instant::now() + refresh;
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(deadline) => break,
                (bytes, source) = line.receive() => answer(line, &tag, &bytes, source).await?,
            }
        }
        granted_s = match line.register(registrar, expires_s).await {
            Ok(granted_s) => granted_s,
            Err(error) => {
                say(format_args!("not registered any more ({error:#}); trying again"))?;
                RETRY_S
            }
        };
    }
}

/// A phone that nobody picks up: it rings until the caller gives up.
async fn answer(line: &Line, tag: &str, bytes: &[u8], source: SocketAddr) -> anyhow::Result<()> {
    let Ok(message) = scan(bytes) else { return Ok(()) };
    let reply = match kind(&message) {
        (Some(Method::Invite), None) => {
            let caller = message.from().ok().and_then(|from| from.uri.user.map(str::to_owned));
            say(format_args!("it rings: {}", caller.as_deref().unwrap_or("unknown caller")))?;
            (180, "Ringing")
        }
        (Some(Method::Options | Method::Bye | Method::Cancel | Method::Notify), None) => (200, "OK"),
        (Some(Method::Ack) | None, _) | (_, Some(_)) => return Ok(()),
        (Some(_), None) => (501, "Not Implemented"),
    };
    if let Ok(reply) = line.phone.respond(&message, reply, tag, None) {
        line.send(&reply, source).await?;
    }
    Ok(())
}

/// Half of it passes until the next try.
const RETRY_S: u32 = 10;
