//! Replica mode: a trusted PBX relays what it has accepted. It is believed and answered, and never gets in the way of a
//! call (promise 8).

use bytes::Bytes;

use crate::ingest::site::Observation;
use crate::model::{BindingSource, FeedKind, Hop, Now, PbxId};
use crate::sip::registrar::{RegisterRequest, decide, origin};
use crate::sip::{Message, Method, Refusal, Response};

use super::front::{Core, Decision, Request};
use super::heard::Heard;
use super::siptrace::Original;
use super::transactions::{Transactions, no_transaction};

/// The mode's memory, shared by the listener's sockets.
pub(super) struct Replica {
    transactions: Transactions,
    heard: Heard,
}

impl Replica {
    pub(super) fn new(listener: &str) -> Self {
        let heard = Heard::new(listener, FeedKind::Replica);
        Self { transactions: Transactions::new(), heard }
    }

    /// Judges a request that has all it must have.
    pub(super) fn decide(&self, core: &Core, request: &Request<'_, '_>) -> Result<Decision, Refusal> {
        self.heard.note(&core.registry, request.pbx, request.now);
        let ok = || request.reply.status(200, "OK");
        let response = match request.method {
            Method::Register => register(core, request),
            Method::Options => ok().header("Allow", ALLOW),
            Method::Notify => ok(),
            Method::Publish => core.publications.accept(core, request)?,
            Method::Invite => {
                self.transactions.answered(request.message, request.now.tick);
                observe(core, request.message, request.pbx, request.now);
                return Err(Refusal::new(480, "Temporarily Unavailable", "replica"));
            }
            Method::Cancel => {
                observe(core, request.message, request.pbx, request.now);
                self.transactions.cancel(request.message, request.now.tick)?;
                ok()
            }
            Method::Bye | Method::Prack | Method::Update | Method::Info | Method::Refer => {
                observe(core, request.message, request.pbx, request.now);
                return Err(no_transaction());
            }
            Method::Other(_) => return Err(Refusal::new(501, "Not Implemented", "method")),
            _ => return Err(Refusal::new(405, "Method Not Allowed", "method").with("Allow", ALLOW)),
        };
        Ok(Decision { status: 200, response, seq: None })
    }
}

/// Hands a message about a call to its site.
pub(super) fn observe(core: &Core, message: &Message<'_>, pbx: PbxId, now: Now) {
    let original = Original::of(message);
    core.sites.observe(Observation {
        pbx,
        feed: FeedKind::Replica,
        bytes: Bytes::copy_from_slice(message.raw()),
        source: original.source,
        destination: original.destination,
        hop: Hop::FromPbx,
        at: now,
    });
}

/// Takes over what the PBX has accepted. It is answered at once: only a registrar promises what is stored (promise 1);
/// and with 200 whatever we make of it: the PBX has already told the phone yes.
fn register(core: &Core, request: &Request<'_, '_>) -> Response {
    let ok = || request.reply.status(200, "OK");
    let source = origin(request.message, request.peer.source);
    let applied = RegisterRequest::parse(request.message, source, request.peer.transport).and_then(|wanted| {
        let target = core.resolve(request.pbx, &wanted.user, &wanted.host)?;
        let policy = core.passive_policy(request.pbx);
        core.register(
            &target,
            BindingSource::Passive,
            request.now,
            |known| decide(known, &wanted, &policy, request.now),
            |bindings| ok().contacts(bindings, request.now),
        )
    });
    applied.map_or_else(
        |refusal| {
            metrics::counter!("hookswitch_dropped_total", "where" => "sip_replica", "reason" => refusal.label)
                .increment(1);
            ok()
        },
        |(response, _)| response,
    )
}

const ALLOW: &str = "REGISTER, PUBLISH, NOTIFY, OPTIONS, INVITE, ACK, CANCEL, BYE";
