//! Registrar mode: phones register here (RFC 3261 §10); a configured PBX may ask where they are.

use smallvec::SmallVec;

use crate::config;
use crate::model::{Binding, BindingSource};
use crate::sip::registrar::{Contacts, RegisterRequest, bad_extension, decide, unsupported};
use crate::sip::{Method, Refusal, Uri};

use super::front::{Core, Decision, Request, unavailable};
use super::permission;
use super::redirect;
use super::transactions::{Transactions, no_transaction};

/// The mode's memory, shared by the listener's sockets.
pub(super) struct Registrar {
    transactions: Transactions,
    auth: config::Auth,
}

impl Registrar {
    pub(super) fn new(auth: config::Auth) -> Self {
        Self { transactions: Transactions::new(), auth }
    }

    /// Judges a request that has all it must have.
    pub(super) fn decide(&self, core: &Core, request: &Request<'_, '_>) -> Result<Decision, Refusal> {
        match request.method {
            Method::Register => register(core, request, self.auth),
            Method::Options => options(request),
            Method::Invite => {
                self.transactions.answered(request.message, request.now.tick);
                redirect(core, request)
            }
            Method::Cancel => {
                self.transactions.cancel(request.message, request.now.tick)?;
                Ok(Decision { status: 200, response: request.reply.status(200, "OK"), seq: None })
            }
            Method::Other(_) => Err(Refusal::new(501, "Not Implemented", "method")),
            _ => Err(Refusal::new(405, "Method Not Allowed", "method").with("Allow", ALLOW)),
        }
    }
}

fn options(request: &Request<'_, '_>) -> Result<Decision, Refusal> {
    let unsupported = unsupported(request.message);
    if !unsupported.is_empty() {
        return Err(bad_extension(&unsupported));
    }
    let response = request.reply.status(200, "OK").header("Allow", ALLOW).header("Supported", SUPPORTED);
    Ok(Decision { status: 200, response, seq: None })
}

fn register(core: &Core, request: &Request<'_, '_>, auth: config::Auth) -> Result<Decision, Refusal> {
    let wanted = RegisterRequest::parse(request.message, request.peer.source, request.peer.transport)?;
    let target = core.resolve(request.pbx, &wanted.user, &wanted.host)?;
    let account = core.registry.accounts.get(target.account);
    let settings = account.as_ref().map(|account| &account.value.settings.registration);
    let actor = permission::check(core, request, &wanted, &target, settings)?;
    // Whoever has set a password expects it to be asked for, whatever else the listener lets in.
    let has_secret = |device| core.registry.has_secret(device);
    if auth == config::Auth::Digest || has_secret(actor) || (actor != target.device() && has_secret(target.device())) {
        core.auth.check(core, request, &target, actor)?;
    }
    let granted = core.policy();
    let policy = settings.map_or(granted, |settings| permission::policy(&granted, settings));
    if !request.has_room {
        // Asked before anything changes, so that a refused REGISTER is one that did nothing.
        return Err(unavailable("Too Many Registrations In Flight", "pending_full"));
    }
    let pulse = core.keepalive.pulse(settings);
    let ok = request.reply.status(200, "OK");
    let (response, seq) = core.register(
        &target,
        BindingSource::Registrar,
        request.now,
        |known| decide(known, &wanted, &policy, request.now),
        |bindings| {
            let contacts = core.keepalive.contacts(pulse, bindings, &wanted);
            (ok.contacts(bindings, request.now), call_ids(core, request, bindings), contacts)
        },
    )?;
    let (response, live, contacts) = response;
    core.keepalive.registered(pulse, target.device(), &contacts, request.peer, request.now);
    // A REGISTER that came through a proxy says nothing of the phone's own connection.
    let is_direct = || wanted.path.is_none() && request.message.via_count() == 1;
    if let Some(flow) = request.peer.flow.filter(|_| wanted.contacts != Contacts::Query && is_direct()) {
        let registration = (core.flows.hash(wanted.call_id), wanted.cseq);
        core.flows.registered((flow, request.peer.transport), target.device(), registration, &live);
    }
    let response = match wanted.path.as_deref().filter(|_| wanted.supports_path) {
        // RFC 3327 §5.3: who says that it knows Path is shown the one that was stored.
        Some(path) => response.header("Path", path),
        None => response,
    };
    let routes = settings.map(|settings| settings.service_route.as_slice()).unwrap_or_default();
    let response = routes.iter().fold(response, |response, uri| response.header("Service-Route", &format!("<{uri}>")));
    Ok(Decision { status: 200, response: response.date(request.now.unix), seq })
}

/// Those of the bindings as [`Flows`](super::flows::Flows) knows them; none where no connection has to be remembered.
fn call_ids(core: &Core, request: &Request<'_, '_>, bindings: &[Binding]) -> SmallVec<[u64; 2]> {
    let of = if request.peer.flow.is_some() { bindings } else { &[] };
    of.iter().map(|binding| core.flows.hash(&binding.call_id)).collect()
}

/// 302 to where the PBX reaches the phone itself; nothing is proxied (promise 8: we take no call). What the INVITE
/// requires is between the two that will talk (RFC 3261 §8.3).
fn redirect(core: &Core, request: &Request<'_, '_>) -> Result<Decision, Refusal> {
    let pbx = core
        .peers
        .claimed(request.peer.source.ip())
        .ok_or_else(|| Refusal::new(403, "Only A Configured PBX May Ask", "not_a_pbx"))?;
    if request.message.to().is_ok_and(|to| to.tag().is_some()) {
        return Err(no_transaction());
    }
    let not_found = || Refusal::new(404, "Not Found", "unknown_device");
    let uri = Uri::parse(request.message.request_uri().unwrap_or_default()).map_err(|_| not_found())?;
    let key = uri.key();
    let target = core.resolve(pbx, &key.user, &key.host)?;
    let device = target.device();
    if core.registry.device(device).is_none() {
        return Err(not_found());
    }
    let contacts = redirect::contacts(&core.registry.bindings(device), request.now);
    if contacts.is_empty() {
        return Err(Refusal::new(480, "Temporarily Unavailable", "no_contact"));
    }
    let response = request.reply.status(302, "Moved Temporarily");
    let response = contacts.iter().fold(response, |response, contact| response.header("Contact", contact));
    Ok(Decision { status: 302, response, seq: None })
}

const ALLOW: &str = "REGISTER, OPTIONS, INVITE, ACK, CANCEL";
const SUPPORTED: &str = "path";
