//! `hookswitch ring`: what a PBX's mirror shows of one call to a phone.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context as _;
use tokio::time::{sleep, timeout};

use hookswitch::config::{Config, Listener, Mode, Protocol};
use hookswitch::sip::client::{Invite, Phone};
use hookswitch::sip::scan;

use super::line::{Line, OwnIds, branch, copy, random};
use super::phone::source_for;
use super::{Access, say};

/// Arguments of `ring`. The token is not needed; with an admin's, a phone that is unknown or nobody's is said to be.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The extension that rings.
    extension: String,
    /// The caller's number.
    #[arg(long, default_value = "+14155550100", value_name = "NUMBER", allow_hyphen_values = true)]
    from: String,
    /// The caller's name.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Seconds until it is answered.
    #[arg(long, default_value_t = 4, value_name = "SECONDS")]
    answer_after: u64,
    /// Seconds until they hang up.
    #[arg(long, default_value_t = 6, value_name = "SECONDS")]
    talk: u64,
    /// Nobody answers: the caller gives up instead.
    #[arg(long)]
    missed: bool,
    /// A header the PBX adds to the phone's INVITE, e.g. "X-Queue: support".
    #[arg(long, value_name = "NAME: VALUE")]
    header: Option<String>,
    /// Where the mirror listens (UDP); by default as the configuration says.
    #[arg(long, value_name = "ADDRESS")]
    mirror: Option<SocketAddr>,
    #[command(flatten)]
    access: Access,
}

/// Sends the copies and says what they show.
pub async fn run(config: &Config, arguments: Arguments) -> anyhow::Result<()> {
    let mirror = match arguments.mirror {
        Some(address) => address,
        None => listener(config, Mode::Mirror).context("no mirror listens on UDP; --mirror says where one does")?,
    };
    let header = arguments.header.as_deref().map(|header| {
        let (name, value) = header.split_once(':').context("--header wants \"NAME: VALUE\"")?;
        anyhow::Ok((name.trim().to_owned(), value.trim().to_owned()))
    });
    let header = header.transpose()?;
    let capture = Line::open_at("mirror", "pbx.local", None, source_for(mirror).await?).await?;
    capture.connect(mirror).await?;
    let call = Call::new(&arguments, capture.address(), header.as_ref())?;
    let show = async |bytes: &[u8], from_pbx: bool| {
        let (pbx, phone) = (call.pbx.local, call.phone.local);
        let (source, destination) = if from_pbx { (pbx, phone) } else { (phone, pbx) };
        let sent = capture.send_on(&copy(bytes, source, destination, from_pbx)).await;
        sent.with_context(|| format!("no mirror listens at {mirror}; is `hookswitch` running?"))
    };
    let invite = scan(&call.invite)?;
    show(&call.invite, true).await?;
    show(&call.phone.respond(&invite, (180, "Ringing"), &call.tag, None)?, false).await?;
    say(format_args!("{} rings, called by {}", arguments.extension, arguments.from))?;
    if let Ok(Some(doubt)) = timeout(DOUBT_WAIT, doubt(config, &arguments)).await {
        say(doubt)?;
    }
    sleep(Duration::from_secs(arguments.answer_after)).await;
    if arguments.missed {
        show(&call.pbx.cancel(&invite)?, true).await?;
        let cancelled = call.phone.respond(&invite, (487, "Request Terminated"), &call.tag, None)?;
        show(&cancelled, false).await?;
        show(&call.pbx.ack(&invite, &scan(&cancelled)?, &branch()?)?, true).await?;
        say("the caller gave up")?;
        return Ok(());
    }
    let answered = call.phone.respond(&invite, (200, "OK"), &call.tag, None)?;
    show(&answered, false).await?;
    show(&call.pbx.ack(&invite, &scan(&answered)?, &branch()?)?, true).await?;
    say("answered")?;
    sleep(Duration::from_secs(arguments.talk)).await;
    let bye = call.pbx.bye(&invite, &scan(&answered)?, &branch()?)?;
    show(&bye, true).await?;
    show(&call.phone.respond(&scan(&bye)?, (200, "OK"), &call.tag, None)?, false).await?;
    say("hung up")?;
    Ok(())
}

/// Where the first listener of this mode listens on UDP, seen from this host.
pub fn listener(config: &Config, mode: Mode) -> Option<SocketAddr> {
    let ours = config.listeners.iter().filter(|listener: &&Listener| listener.mode == mode);
    let bind = ours.flat_map(|listener| &listener.bind).find(|bind| bind.protocol == Protocol::Udp)?;
    let mut address = bind.address;
    match address.ip() {
        ip if !ip.is_unspecified() => {}
        ip if ip.is_ipv4() => address.set_ip(std::net::Ipv4Addr::LOCALHOST.into()),
        _ => address.set_ip(std::net::Ipv6Addr::LOCALHOST.into()),
    }
    Some(address)
}

/// Why nothing may pop, as far as the token shows. It is a hint: what can't be asked is left unsaid.
async fn doubt(config: &Config, arguments: &Arguments) -> Option<String> {
    let api = arguments.access.token.as_ref().and_then(|_| arguments.access.open(config).ok())?;
    let extension = &arguments.extension;
    let page = api.get(&format!("/v1/devices?q={extension}&limit=100")).await.ok()?;
    let devices = page["items"].as_array()?;
    let mut ours = devices.iter().filter(|device| device["extension"].as_str() == Some(extension)).peekable();
    if ours.peek().is_none() {
        return Some(format!("but no phone {extension} ever registered: it pops for nobody"));
    }
    let linked = ours.any(|device| device["users"].as_array().is_none_or(|users| !users.is_empty()));
    (!linked).then(|| format!("but phone {extension} is linked to nobody: it pops for nobody"))
}

/// The PBX's leg to the phone.
struct Call {
    pbx: Phone,
    phone: Phone,
    tag: String,
    invite: Vec<u8>,
}

impl Call {
    fn new(arguments: &Arguments, local: SocketAddr, header: Option<&(String, String)>) -> anyhow::Result<Self> {
        let at = |user: &str, display: Option<&String>| Phone {
            user: user.to_owned(),
            domain: "pbx.local".to_owned(),
            display: display.cloned(),
            local,
            transport: hookswitch::model::Transport::Udp,
            user_agent: "hookswitch-ring".to_owned(),
        };
        let pbx = at(&arguments.from, arguments.name.as_ref());
        let phone = at(&arguments.extension, None);
        let target = phone.address_of_record();
        let header = header.map(|(name, value)| (name.as_str(), value.as_str()));
        let about = Invite { target: &target, to: &target, sdp: None, headers: header.as_slice() };
        let invite = pbx.invite(&OwnIds::new()?.borrowed(), &about);
        Ok(Self { pbx, phone, tag: random()?, invite })
    }
}

/// A call does not wait longer for a hint.
const DOUBT_WAIT: Duration = Duration::from_secs(1);
