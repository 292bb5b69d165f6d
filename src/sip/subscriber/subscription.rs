//! One subscription: its dialog, its request on the way, and when something is to be done about it.

use crate::model::Tick;

/// What is subscribed to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Topic {
    /// The event package.
    pub package: Package,
    /// User part of the resource, at the notifier's domain.
    pub user: String,
}

/// Event packages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Package {
    /// Dialogs of a resource (RFC 4235).
    Dialog,
    /// Registrations of an address-of-record (RFC 3680).
    Reg,
}

/// State of one subscription.
pub(super) struct Subscription {
    pub call_id: String,
    /// Our tag.
    pub tag: String,
    /// `CSeq` of our last request.
    pub cseq: u32,
    pub dialog: Option<Dialog>,
    /// `CSeq` of the last NOTIFY.
    pub notified: Option<u32>,
    pub request: Option<Request>,
    pub phase: Phase,
    /// When the phase wants something done.
    pub wake_at: Tick,
    /// When the notifier lets it go.
    pub expires_at: Tick,
    /// What the request on the way asks for.
    pub wished_s: u32,
    /// The least the notifier grants (423).
    pub expires_min_s: u32,
    /// Challenges answered since the last success.
    pub proofs: u8,
    /// Failures since it last went well for a while.
    pub failures: u32,
    /// When it became active.
    pub since: Tick,
    /// Whether it has told its state, or failed, since it was asked.
    pub settled: bool,
    /// Why it failed, while it rests.
    pub why: Option<String>,
}

/// The notifier's side of the dialog.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dialog {
    pub tag: String,
    /// Its contact.
    pub target: String,
    pub routes: Vec<String>,
}

/// A request without a final answer yet.
pub(super) struct Request {
    pub branch: String,
    pub bytes: Vec<u8>,
    /// When to send it again; none on a stream.
    pub again_at: Option<Tick>,
    pub interval_ms: u64,
    /// When to give up.
    pub until: Tick,
}

/// Where a subscription stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has none, and asks at `wake_at`.
    Resting,
    /// It was accepted; the first NOTIFY is due by `wake_at`.
    Accepted,
    /// It has told its state; it is refreshed at `wake_at`.
    Active,
}

impl Package {
    /// Its name in `Event`.
    #[must_use]
    pub fn event(self) -> &'static str {
        match self {
            Self::Dialog => "dialog",
            Self::Reg => "reg",
        }
    }

    /// The type of its bodies.
    #[must_use]
    pub fn body_type(self) -> &'static str {
        match self {
            Self::Dialog => "application/dialog-info+xml",
            Self::Reg => "application/reginfo+xml",
        }
    }
}

impl Topic {
    /// The resource's URI.
    #[must_use]
    pub fn uri(&self, domain: &str) -> String {
        format!("sip:{}@{domain}", self.user)
    }
}

impl Subscription {
    /// One that is to be asked for at `at`.
    pub fn resting(call_id: String, tag: String, at: Tick) -> Self {
        Self {
            call_id,
            tag,
            cseq: 0,
            dialog: None,
            notified: None,
            request: None,
            phase: Phase::Resting,
            wake_at: at,
            expires_at: at,
            wished_s: 0,
            expires_min_s: 0,
            proofs: 0,
            failures: 0,
            since: at,
            settled: false,
            why: None,
        }
    }

    /// When something is to be done about it.
    pub fn due(&self) -> Tick {
        let Some(request) = &self.request else { return self.wake_at };
        request.again_at.map_or(request.until, |again| again.min(request.until))
    }

    /// Its request was sent once more (RFC 3261 §17.1.2.2).
    pub fn sent_again(&mut self, now: Tick) {
        let Some(request) = &mut self.request else { return };
        request.interval_ms = (request.interval_ms * 2).min(T2_MS);
        request.again_at = Some(now + request.interval_ms);
    }

    /// Forgets the dialog.
    pub fn renew(&mut self, call_id: String, tag: String) {
        (self.call_id, self.tag) = (call_id, tag);
        (self.dialog, self.notified, self.phase) = (None, None, Phase::Resting);
        self.cseq = 0;
    }

    /// Leaves it alone for a while: `least_ms`, doubled with each failure up to [`REST_MS_MAX`] or `least_ms` itself.
    pub fn rest(&mut self, why: &str, least_ms: u64, now: Tick) {
        self.phase = Phase::Resting;
        (self.dialog, self.notified, self.request) = (None, None, None);
        let wait = least_ms.saturating_mul(1 << self.failures.min(10)).min(REST_MS_MAX.max(least_ms));
        self.wake_at = now + wait;
        self.failures = self.failures.saturating_add(1);
        self.proofs = 0;
        self.settled = true;
        self.why = Some(why.to_owned());
    }

    /// The notifier grants `granted_s` from now on; refreshed when four fifths of it are over, at the latest after `refresh_s`.
    pub fn granted(&mut self, granted_s: u32, refresh_s: u32, now: Tick) {
        let granted_ms = u64::from(granted_s) * 1000;
        self.expires_at = now + granted_ms;
        if self.phase == Phase::Active {
            self.wake_at = now + (granted_ms / 5 * 4).min(u64::from(refresh_s) * 1000).max(REFRESH_MS_MIN);
        }
    }
}

/// RFC 3261 §17.1.2: the longest wait between two retransmissions.
const T2_MS: u64 = 4_000;
const REST_MS_MAX: u64 = 600_000;
const REFRESH_MS_MIN: u64 = 1_000;
