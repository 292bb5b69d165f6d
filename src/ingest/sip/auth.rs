//! Digest authentication of phones that register (RFC 3261 §22, RFC 7616, RFC 8760).
//!
//! An unknown phone, one without a password and a wrong password are told apart by our counters alone: each is asked the
//! same, judged by the same hashes, and answered the same.

use std::hash::{BuildHasher as _, RandomState};

use crate::config;
use crate::model::{DeviceId, Ha1, canonical_user};
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
        let allowed = self.attempts.allows(aor, request.peer.source.ip(), request.now.tick);
        // Not 403, which phones take for a wrong password and then give up.
        allowed.map_err(|TooMany(label)| {
            Refusal::new(503, "Too Many Attempts", label).with("Retry-After", TOO_MANY_RETRY_AFTER_S)
        })
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
