//! Digest authentication of phones that register (RFC 3261 §22, RFC 7616, RFC 8760).
//!
//! An unknown phone, one without a password and a wrong password are told apart by our counters alone: each is asked the
//! same, judged by the same hashes, and answered the same.

use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::config;
use crate::model::{DeviceId, Ha1, Tick, canonical_user};
use crate::registry::Target;
use crate::sip::digest::{self, Algorithm, Authorization, AuthorizationFault};
use crate::sip::syntax::unfold;
use crate::sip::{Name, Refusal};

use super::attempts::{Attempt, Attempts, TooMany};
use super::front::{Core, Request};
use super::nonces::{Nonces, Stale, Use};

/// What all registrar listeners share.
pub(super) struct Auth {
    realm: Box<str>,
    /// Those offered, strongest first.
    algorithms: Box<[Algorithm]>,
    nonces: Nonces,
    attempts: Attempts,
    /// What those without a password are judged by; random, so nobody's.
    decoy: Ha1,
    /// Means nothing; a nonce holds all we want back.
    opaque: String,
    /// Tells one request from another.
    prints: RandomState,
    /// When somebody was last named who tries too often; 0 = never.
    named_at: AtomicU64,
}

/// What makes our nonces ours.
#[derive(Clone, Copy)]
pub(super) struct Seed(pub [u8; 64]);

impl Auth {
    /// `seed` is random, drawn once a process: after a restart each phone is asked once more.
    pub(super) fn new(config: &config::Registrar, seed: Seed) -> Self {
        let used_max = usize::try_from(config.nonces_max).unwrap_or(usize::MAX);
        let unguessable: String = seed.0.iter().map(|byte| char::from(*byte)).collect();
        let decoy = digest::ha1("decoy", &config.realm, &unguessable);
        let opaque = digest::ha1("opaque", &config.realm, &unguessable).md5;
        Self {
            realm: config.realm.as_str().into(),
            algorithms: config.digest_algorithms.as_slice().into(),
            nonces: Nonces::new(seed.0, used_max, u64::from(config.nonce_lifetime_s) * 1000),
            attempts: Attempts::new(),
            decoy,
            opaque: format!("{:032x}", u128::from_be_bytes(opaque)),
            prints: RandomState::new(),
            named_at: AtomicU64::new(0),
        }
    }

    /// Lets a REGISTER for `target` pass when its sender has proved to be `actor`, who is `target` itself but for third
    /// parties with permission.
    ///
    /// # Errors
    /// 401 with challenges, 400 for credentials that can't be judged, 403 when they are another phone's, 503 after too many
    /// attempts.
    pub(super) fn check(
        &self,
        core: &Core,
        request: &Request<'_, '_>,
        target: &Target<'_>,
        actor: DeviceId,
    ) -> Result<(), Refusal> {
        let values: Vec<_> = request.message.headers(Name::Authorization).map(unfold).collect();
        let shown = match self.shown(&values) {
            Ok(Some(shown)) => shown,
            Ok(None) => return Err(self.challenge(core, request, actor, None)),
            Err(fault) => return Err(self.unusable(core, request, actor, fault)),
        };
        // The URI that was hashed is not held against the Request-URI: phones and proxies write what they like there (RFC 3261
        // §22.4 lets them differ), and a REGISTER has no other resource than this registrar, whose nonce it is.
        let (source, now) = (request.peer.source.ip(), request.now.tick);
        let Ok(nonce) = self.nonces.read(shown.nonce, source, now) else {
            return Err(self.challenge(core, request, actor, Some(Stale)));
        };
        let whose = Target::new(target.account, target.pbx, canonical_user(shown.username)).device();
        self.allow(core, request, whose)?;
        let known = core.registry.ha1(whose, &self.realm);
        let proved = shown.is_proof_of(known.as_ref().unwrap_or(&self.decoy), "REGISTER");
        if !proved || known.is_none() {
            self.charge(core, request, Attempt::Wrong, whose);
            let label = if known.is_some() { "wrong_password" } else { "no_secret" };
            return Err(self.asked_again(request, label, false));
        }
        let print = self.prints.hash_one((request.peer.source, request.message.raw()));
        match self.nonces.spend(nonce, shown.count, print, now) {
            Ok(Use::New | Use::Again) => {}
            Err(Stale) => return Err(self.challenge(core, request, actor, Some(Stale))),
        }
        self.attempts.forgive(whose, source, now);
        if whose == actor { Ok(()) } else { Err(Refusal::new(403, "Not Your Address", "not_own_aor")) }
    }

    /// Our realm's credentials; a phone may show those of others as well.
    fn shown<'v>(
        &self,
        values: &'v [std::borrow::Cow<'_, str>],
    ) -> Result<Option<Authorization<'v>>, AuthorizationFault> {
        for value in values {
            if let Some(shown) = Authorization::parse(value)?.filter(|shown| *shown.realm == *self.realm) {
                let offered = self.algorithms.contains(&shown.algorithm);
                return if offered { Ok(Some(shown)) } else { Err(AuthorizationFault::NotOffered) };
            }
        }
        Ok(None)
    }

    /// A phone that remembers what was offered before the configuration changed is asked anew.
    fn unusable(&self, core: &Core, request: &Request<'_, '_>, actor: DeviceId, fault: AuthorizationFault) -> Refusal {
        match fault {
            AuthorizationFault::Malformed => Refusal::new(400, "Bad Authorization Header", "digest_malformed"),
            AuthorizationFault::NotOffered => self.challenge(core, request, actor, None),
        }
    }

    fn challenge(&self, core: &Core, request: &Request<'_, '_>, actor: DeviceId, stale: Option<Stale>) -> Refusal {
        if let Err(refusal) = self.allow(core, request, actor) {
            return refusal;
        }
        self.charge(core, request, Attempt::Challenge, actor);
        match stale {
            Some(Stale) => self.asked_again(request, "stale_nonce", true),
            None => self.asked_again(request, "no_credentials", false),
        }
    }

    fn asked_again(&self, request: &Request<'_, '_>, label: &'static str, stale: bool) -> Refusal {
        let Self { realm, opaque, .. } = self;
        let nonce = self.nonces.issue(request.peer.source.ip(), request.now.tick);
        let stale = if stale { ", stale=true" } else { "" };
        self.algorithms.iter().fold(Refusal::new(401, "Unauthorized", label), |refusal, algorithm| {
            let algorithm = algorithm.name();
            let value = format!(
                "Digest realm=\"{realm}\", nonce=\"{nonce}\", opaque=\"{opaque}\", algorithm={algorithm}, qop=\"auth\"{stale}"
            );
            refusal.with("WWW-Authenticate", value)
        })
    }

    fn allow(&self, core: &Core, request: &Request<'_, '_>, aor: DeviceId) -> Result<(), Refusal> {
        if is_trusted(core, request) {
            return Ok(());
        }
        let (source, now) = (request.peer.source.ip(), request.now.tick);
        let allowed = self.attempts.allows(aor, source, now);
        // Not 403, which phones take for a wrong password and then give up.
        allowed.map_err(|TooMany(label)| {
            self.name(source, label, now);
            Refusal::new(503, "Too Many Attempts", label).with("Retry-After", TOO_MANY_RETRY_AFTER_S)
        })
    }

    /// Tells the operator who it is that tries too often, now and then: they go on for hours.
    fn name(&self, source: IpAddr, label: &'static str, now: Tick) {
        let last = self.named_at.load(Ordering::Relaxed);
        let is_due = last == 0 || now.0.saturating_sub(last) >= NAMED_EVERY_MS;
        if is_due && self.named_at.compare_exchange(last, now.0.max(1), Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            tracing::warn!(%source, reason = label, "too many attempts to register without the right password; they get 503");
        }
    }

    fn charge(&self, core: &Core, request: &Request<'_, '_>, attempt: Attempt, aor: DeviceId) {
        if !is_trusted(core, request) {
            self.attempts.charge(attempt, aor, request.peer.source.ip(), request.now.tick);
        }
    }
}

/// A PBX or its proxy sends for many phones and has limits of its own.
fn is_trusted(core: &Core, request: &Request<'_, '_>) -> bool {
    core.peers.claimed(request.peer.source.ip()).is_some()
}

/// Longer than a phone's own retries.
const TOO_MANY_RETRY_AFTER_S: &str = "60";
/// As often as the log may say it.
const NAMED_EVERY_MS: u64 = 60_000;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::runtime::Handle;
    use tokio_util::sync::CancellationToken;
    use tokio_util::task::TaskTracker;

    use super::*;
    use crate::clock::Clock;
    use crate::ingest::sip::front::Peer;
    use crate::ingest::sip::registrar::Registrar;
    use crate::ingest::site::Sites;
    use crate::model::{DeviceSecret, PbxId, Transport, UnixMillis};
    use crate::registry::{Limits, Registry};
    use crate::sip::digest::{Challenge, Credentials, work};
    use crate::sip::{Method, Reply, Salt, scan};
    use crate::store::Store;

    /// A registrar that asks everybody, and phones 101 (with a password) and 102 (without).
    struct Office {
        registrar: Registrar,
        core: Core,
        clock: Clock,
        pbx: PbxId,
    }

    impl Office {
        async fn open() -> Self {
            let clock = Clock::manual(UnixMillis(1_800_000_000_000));
            let store = Store::open("sqlite::memory:").await.unwrap();
            let registry: Arc<Registry> = Registry::open(store, clock.clone(), Limits::default()).await.unwrap();
            let defaults = registry.ensure_defaults().unwrap();
            let (account, pbx, now) = (defaults.account, defaults.pbx, clock.now());
            let config = config::Config::default();
            let device = registry.create_device(account, pbx, "101", now).unwrap().device.id;
            registry.create_device(account, pbx, "102", now).unwrap();
            let ha1 = digest::ha1("101", &config.registrar.realm, "s3cret");
            let realm = config.registrar.realm.as_str().into();
            registry.set_secret(DeviceSecret { device, account, realm, ha1, set_at: now.unix }).unwrap();
            let sites =
                Sites::new(registry.clone(), &TaskTracker::new(), &CancellationToken::new(), &Handle::current());
            let core = Core::new(&registry, sites, &config, Salt([1; 16]), Seed([7; 64]));
            Self { registrar: Registrar::new(config::Auth::Digest), core, clock, pbx }
        }

        /// What a REGISTER of `user` gets: the answer, its metric label, and what was hashed for it.
        fn register(&self, user: &str, credentials: &str) -> (Vec<u8>, &'static str, (u32, usize)) {
            let text = format!(
                "REGISTER sip:pbx.example SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.7;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n\
                 From: <sip:{user}@pbx.example>;tag=1\r\nTo: <sip:{user}@pbx.example>\r\nCall-ID: {user}@192.0.2.7\r\n\
                 CSeq: 1 REGISTER\r\nContact: <sip:{user}@192.0.2.7>\r\n{credentials}Content-Length: 0\r\n\r\n"
            );
            let message = scan(text.as_bytes()).unwrap();
            let source = "192.0.2.7:5060".parse().unwrap();
            let reply = Reply::to(&message, source, &self.core.salt).unwrap();
            let request = Request {
                message: &message,
                method: Method::Register,
                reply: &reply,
                peer: &Peer { source, transport: Transport::Udp, flow: None, socket: None },
                pbx: self.pbx,
                now: self.clock.now(),
                has_room: true,
            };
            work::take();
            let decision = self.registrar.decide(&self.core, &request);
            let hashed = work::take();
            match decision {
                Ok(_) => (Vec::new(), "granted", hashed),
                Err(refusal) => (reply.refuse(&refusal).finish(), refusal.label, hashed),
            }
        }

        /// The same, from the challenge on.
        fn sign_in(&self, user: &str, password: &str) -> (&'static str, (u32, usize)) {
            let (challenged, _, _) = self.register(user, "");
            let challenge = Challenge::strongest(&scan(&challenged).unwrap()).unwrap();
            let credentials = Credentials { user: user.into(), password: password.into() };
            let (name, value) = challenge.answer(&credentials, "REGISTER", "sip:pbx.example", 1, "0a4f113b");
            let (_, label, hashed) = self.register(user, &format!("{name}: {value}\r\n"));
            (label, hashed)
        }
    }

    /// The time they take is what whoever asks could tell them apart by. Hashes are all of it that depends on the password.
    #[tokio::test]
    async fn an_unknown_name_costs_the_same_hashes_as_a_wrong_password() {
        let office = Office::open().await;
        let wrong = office.sign_in("101", "guessed");
        assert_eq!(wrong.0, "wrong_password");
        assert!(wrong.1.0 >= 2, "the request and the proof are hashed");
        assert_eq!(office.sign_in("102", "guessed"), ("no_secret", wrong.1), "a phone without a password");
        assert_eq!(office.sign_in("999", "guessed"), ("no_secret", wrong.1), "a name that nobody has");
        assert_eq!(office.sign_in("101", "s3cret"), ("granted", wrong.1), "a right password");
    }
}
