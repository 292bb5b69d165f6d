//! Numbers an operator may turn: what is granted, what is bounded, what is kept.

use crate::model::DigestAlgorithm as Algorithm;

use super::read::{Origin, Section};

/// `[registrar]`: what registrar listeners grant (RFC 3261 §10.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registrar {
    /// `expires_default_s`: seconds granted when a phone asks for nothing.
    pub expires_default_s: u32,
    /// `expires_min_s`: shorter wishes (under an hour) get 423.
    pub expires_min_s: u32,
    /// `expires_max_s`: longer wishes are cut to this.
    pub expires_max_s: u32,
    /// `expires_deviation_percent`: how much shorter than that a granted time may be, by chance, so that phones don't all
    /// come back at once.
    pub expires_deviation_percent: u32,
    /// `contacts_max`: bindings of one address-of-record; the oldest goes first.
    pub contacts_max: u32,
    /// `connection_grace_s`: so long after its TCP, TLS or WebSocket connection was closed a phone may register anew
    /// before the bindings that came over it end; where phones close it after each REGISTER and listen at a
    /// port of their own, as long as `expires_max_s`.
    pub connection_grace_s: u32,
    /// `keepalive_s`: how often phones that registered here are asked (OPTIONS, RFC 3261 §11) whether they live, spread over
    /// that time; 0 = never. Shorter than what a NAT forgets in (often 30 s) it keeps the way to the phone open. The round
    /// trip shows in the device's health.
    pub keepalive_s: u32,
    /// `keepalive_misses`: questions in a row without an answer that end a binding, which comes back with the phone's next
    /// REGISTER; 0 = none does.
    pub keepalive_misses: u32,
    /// `keepalive_timeout_s`: how long an answer may take. Over UDP a question is sent again after 0.5 s, 1.5 s, 3.5 s …
    /// (RFC 3261 §17.1.2).
    pub keepalive_timeout_s: u32,
    /// `realm`: whose passwords phones are asked for; best a name of yours, chosen before the first password is set, since
    /// each is hashed with it: those of another realm prove nothing.
    pub realm: String,
    /// `digest_algorithms`: which of `MD5`, `SHA-256` and `SHA-512-256` are offered. Always strongest first (RFC 8760 §2.4),
    /// and many phones look at the first one only.
    pub digest_algorithms: Vec<Algorithm>,
    /// `nonce_lifetime_s`: how long a phone may use one nonce again.
    pub nonce_lifetime_s: u32,
    /// `nonces_max`: nonces in use that are remembered, some 100 bytes each; a phone whose nonce had to go is asked once
    /// more.
    pub nonces_max: u32,
}

/// `[limits]`: bounds on what peers can make us hold. What passes one is refused or dropped, and counted
/// (`hookswitch_dropped_total`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `devices_max`: devices of one account.
    pub devices_max: u32,
    /// `devices_per_second_max`: new devices a second in one account.
    pub devices_per_second_max: u32,
    /// `pending_replies_max`: replies a UDP socket holds back until their change is committed.
    pub pending_replies_max: u32,
    /// `commit_wait_ms`: how long a reply waits for its commit before it becomes 503; below a second, so that the answer is
    /// there within one.
    pub commit_wait_ms: u32,
    /// `connections_max`: connections to all TCP, TLS and WebSocket addresses together. Each is an open file: the soft limit
    /// of those (`ulimit -n`) is raised to the hard one at start, which is logged; the hard one (`LimitNOFILE` of a systemd
    /// unit) must be above the sum of what is allowed here.
    pub connections_max: u32,
    /// `connections_per_source_max`: of them, from one source: an IPv4 address or a /64 of IPv6.
    pub connections_per_source_max: u32,
    /// `connection_idle_s`: a connection silent for this long is closed. The default is the longest default
    /// registration and some grace.
    pub connection_idle_s: u32,
    /// `http_connections_max`: connections to all addresses of the API together; the operator's pages have as many of their
    /// own.
    pub http_connections_max: u32,
    /// `http_connections_per_source_max`: of them, from one source; as many by default, since a proxy is one.
    pub http_connections_per_source_max: u32,
    /// `message_wait_s`: a message begun on a stream must be complete after this long, and so must the handshakes of TLS
    /// and WebSocket.
    pub message_wait_s: u32,
    /// `unfinished_max`: of all SIP connections, those that have sent a part of a message; the next one to do so is closed.
    pub unfinished_max: u32,
    /// `unfinished_per_source_max`: of them, from one source.
    pub unfinished_per_source_max: u32,
    /// `held_kib_max`: what all SIP connections may make us hold: parts of messages, replies that wait for a commit, and what
    /// a peer does not read. Who would pass it is closed.
    pub held_kib_max: u32,
    /// `held_kib_per_source_max`: of that, from one source.
    pub held_kib_per_source_max: u32,
    /// `certificate_check_s`: how often the files of TLS certificates are looked at. A change is taken up when it has stood
    /// for one more look, so that a half-written pair is not.
    pub certificate_check_s: u32,
    /// `keepalives_per_second_max`: questions (`registrar.keepalive_s`) a second, repetitions counted; phones beyond it wait.
    pub keepalives_per_second_max: u32,
    /// `keepalives_under_way_max`: questions that wait for their answer, about 1 KiB each; phones beyond it wait.
    pub keepalives_under_way_max: u32,
    /// `receive_buffer_kib`: what the system may hold for a UDP address until it is read; it grants no
    /// more than its `net.core.rmem_max`, and what it grants is logged when that is less. What found no room is counted as
    /// `hookswitch_dropped_total{reason="receive_buffer_full"}` (on Linux).
    pub receive_buffer_kib: u32,
    /// `stop_s`: how long stopping may take: what is owed is sent, then what is left is stored.
    pub stop_s: u32,
}

/// `[retention]`: how long history is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retention {
    /// `calls_days`: calls.
    pub calls_days: u32,
    /// `trails_days`: why a user got or did not get a popup.
    pub trails_days: u32,
}

impl Registrar {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let expires_default_s = number(&mut section, "expires_default_s", 3600, 1, MONTH_S);
        let expires_min_s = number(&mut section, "expires_min_s", 60, 1, 3600);
        let expires_max_s = number(&mut section, "expires_max_s", 7200, 1, MONTH_S);
        let expires_deviation_percent = number(&mut section, "expires_deviation_percent", 0, 0, 50);
        let contacts_max = number(&mut section, "contacts_max", 10, 1, 100);
        let connection_grace_s = number(&mut section, "connection_grace_s", 10, 0, MONTH_S);
        let keepalive_s = number(&mut section, "keepalive_s", 0, 0, 3600);
        let keepalive_misses = number(&mut section, "keepalive_misses", 3, 0, 100);
        let keepalive_timeout_s = number(&mut section, "keepalive_timeout_s", 4, 1, 32);
        if !(expires_min_s..=expires_max_s).contains(&expires_default_s) {
            let what = "must lie between expires_min_s and expires_max_s";
            section.problem(&Origin::Default, "expires_default_s", what);
        }
        let realm = section.parsed("realm", parse_realm).unwrap_or_else(|| "hookswitch".into());
        let mut digest_algorithms =
            section.list("digest_algorithms", parse_algorithm).unwrap_or_else(|| vec![Algorithm::Md5]);
        digest_algorithms.sort_unstable_by(|one, other| other.cmp(one));
        digest_algorithms.dedup();
        if digest_algorithms.is_empty() {
            section.problem(&Origin::Default, "digest_algorithms", "needs at least one, e.g. [\"MD5\"]");
        }
        let nonce_lifetime_s = number(&mut section, "nonce_lifetime_s", 86_400, 60, MONTH_S);
        let nonces_max = number(&mut section, "nonces_max", 200_000, 1000, 100_000_000);
        section.finish();
        Self {
            expires_default_s,
            expires_min_s,
            expires_max_s,
            expires_deviation_percent,
            contacts_max,
            connection_grace_s,
            keepalive_s,
            keepalive_misses,
            keepalive_timeout_s,
            realm,
            digest_algorithms,
            nonce_lifetime_s,
            nonces_max,
        }
    }
}

impl Limits {
    /// `connection_idle_s` in milliseconds.
    #[must_use]
    pub fn idle_ms(&self) -> u64 {
        u64::from(self.connection_idle_s) * 1000
    }

    /// `message_wait_s` in milliseconds.
    #[must_use]
    pub fn message_wait_ms(&self) -> u64 {
        u64::from(self.message_wait_s) * 1000
    }

    pub(super) fn read(mut section: Section<'_>) -> Self {
        let limits = Self {
            devices_max: number(&mut section, "devices_max", 100_000, 1, 10_000_000),
            devices_per_second_max: number(&mut section, "devices_per_second_max", 1000, 1, 1_000_000),
            pending_replies_max: number(&mut section, "pending_replies_max", 20_000, 1, 1_000_000),
            commit_wait_ms: number(&mut section, "commit_wait_ms", 800, 10, 30_000),
            connections_max: number(&mut section, "connections_max", 10_000, 1, 1_000_000),
            connections_per_source_max: number(&mut section, "connections_per_source_max", 1000, 1, 1_000_000),
            connection_idle_s: number(&mut section, "connection_idle_s", 7500, 1, MONTH_S),
            http_connections_max: number(&mut section, "http_connections_max", 20_000, 1, 1_000_000),
            http_connections_per_source_max: number(
                &mut section,
                "http_connections_per_source_max",
                20_000,
                1,
                1_000_000,
            ),
            message_wait_s: number(&mut section, "message_wait_s", 10, 1, 3600),
            unfinished_max: number(&mut section, "unfinished_max", 2000, 1, 1_000_000),
            unfinished_per_source_max: number(&mut section, "unfinished_per_source_max", 200, 1, 1_000_000),
            held_kib_max: number(&mut section, "held_kib_max", 65_536, 1, 16_777_216),
            held_kib_per_source_max: number(&mut section, "held_kib_per_source_max", 8192, 1, 16_777_216),
            certificate_check_s: number(&mut section, "certificate_check_s", 10, 1, 86_400),
            keepalives_per_second_max: number(&mut section, "keepalives_per_second_max", 1000, 1, 1_000_000),
            keepalives_under_way_max: number(&mut section, "keepalives_under_way_max", 10_000, 1, 1_000_000),
            receive_buffer_kib: number(&mut section, "receive_buffer_kib", 8192, 64, 1_048_576),
            stop_s: number(&mut section, "stop_s", 10, 1, 600),
        };
        section.finish();
        limits
    }
}

impl Retention {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let retention = Self {
            calls_days: number(&mut section, "calls_days", 90, 1, 36_500),
            trails_days: number(&mut section, "trails_days", 30, 1, 36_500),
        };
        section.finish();
        retention
    }
}

/// It stands between quotes in every challenge.
fn parse_realm(text: &str) -> Result<String, String> {
    let fits = (1..=255).contains(&text.len()) && text.chars().all(|c| !c.is_control() && c != '"' && c != '\\');
    if fits { Ok(text.to_owned()) } else { Err("must have 1 to 255 bytes and no quotes or backslashes".into()) }
}

fn parse_algorithm(text: &str) -> Result<Algorithm, String> {
    Algorithm::of(text).ok_or_else(|| format!("{text:?} is none of MD5, SHA-256 and SHA-512-256"))
}

fn number(section: &mut Section<'_>, name: &str, default: u32, min: u32, max: u32) -> u32 {
    let number = section.number(name, default.into(), min.into()..=max.into());
    u32::try_from(number).unwrap_or(default)
}

const MONTH_S: u32 = 31 * 86_400;
