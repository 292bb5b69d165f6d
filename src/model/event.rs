//! What a feed says happened on a PBX, in words that no feed owns.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::PbxId;

/// One event on one leg, as every feed reports it to its site's switchboard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PbxEvent {
    /// The PBX it happened on.
    pub pbx: PbxId,
    /// Which kind of feed saw it.
    pub feed: FeedKind,
    /// The leg it is about.
    pub leg: LegKey,
    /// What happened.
    pub event: LegEvent,
    /// What the feed saw, in a few words, for the trail.
    pub evidence: String,
}

/// Kinds of feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FeedKind {
    /// SIP that a trusted PBX relays to us.
    Replica,
    /// Copies of SIP that others exchange.
    Mirror,
    /// The same, wrapped in HEP with the addresses they went between.
    Hep,
    /// Asterisk's manager interface (AMI).
    Asterisk,
    /// FreeSWITCH's event socket.
    Freeswitch,
    /// Notifications of dialogs and registrations that we subscribed to (RFC 4235, RFC 3680).
    Subscription,
    /// Events posted over HTTP.
    Webhook,
}

impl FeedKind {
    /// As it is written in metrics and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Replica => "replica",
            Self::Mirror => "mirror",
            Self::Hep => "hep",
            Self::Asterisk => "asterisk",
            Self::Freeswitch => "freeswitch",
            Self::Subscription => "subscription",
            Self::Webhook => "webhook",
        }
    }

    /// Whether it tells of the PBX's own channels, as opposed to SIP that was seen.
    #[must_use]
    pub fn is_connector(self) -> bool {
        matches!(self, Self::Asterisk | Self::Freeswitch | Self::Subscription | Self::Webhook)
    }
}

/// A leg's name within its site. For SIP it is the Call-ID and, where one INVITE was seen on several hops, the hop.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LegKey(pub Arc<str>);

impl fmt::Debug for LegKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LegKey({})", self.0)
    }
}

/// What happened on a leg.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LegEvent {
    /// An INVITE that starts a dialog was seen.
    Started(Box<LegStart>),
    /// It rings (180) or has early media (183).
    Rang,
    /// It was answered (200, or an ACK that proves one).
    Answered,
    /// Its caller's side gave up (CANCEL); it ends unless a 200 has crossed that CANCEL.
    Cancelling,
    /// It was sent elsewhere (REFER accepted) and will end soon.
    Referred,
    /// Its SIP Call-ID became known: the leg that SIP feeds see under that Call-ID on this PBX is this one.
    Named(String),
    /// The caller on it waits in the PBX's queue.
    Queued(Queued),
    /// Its caller left the waiting line: connected, given up or timed out.
    Unqueued,
    /// It belongs to the call with this call key from now on (attended transfer, pick-up).
    Moved(Arc<str>),
    /// Whoever else is in the call with this call key goes on in this leg's call: the leg's far end had asked them and
    /// now connects them (REFER with Replaces, RFC 5589 §7).
    TakesOver(Arc<str>),
    /// It is over.
    Ended(LegEnd),
}

/// The facts of an initial INVITE, before anyone asked whose it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LegStart {
    /// Legs with the same key are one call (SIP: the Call-ID).
    pub call_key: Arc<str>,
    /// Which way it crossed the PBX's edge, when that can be told.
    pub hop: Hop,
    /// Another hop of the same INVITE was seen nearer to the caller, so a proxy sent this one on.
    pub downstream: bool,
    /// The Request-URI.
    pub target: ContactKey,
    /// To: user and host.
    pub to: ContactKey,
    /// From: user and host.
    pub from: ContactKey,
    /// The sender's Contact.
    pub contact: Option<ContactKey>,
    /// Who sent it, when the feed knows.
    pub source: Option<SocketAddr>,
    /// Who received it, when the feed knows.
    pub destination: Option<SocketAddr>,
    /// Who calls, by P-Asserted-Identity, Remote-Party-ID or From.
    pub caller: Caller,
    /// What may tie it to other legs.
    pub joins: JoinHints,
    /// Extension headers (`X-…`) by lower-case name, for queue rules.
    pub headers: Vec<(String, String)>,
    /// Whose channel it is, from a connector; SIP leaves it to be found out.
    pub endpoint: Option<Endpoint>,
    /// The leg's SIP Call-ID, when a feed that is not SIP knows it already.
    pub sip_call_id: Option<String>,
    /// Port of the first audio line of the SDP in its INVITE, which ties a channel to its SIP leg before the Call-ID is
    /// known.
    pub media_port: Option<u16>,
    /// The PBX's name of the queue it is called for.
    pub queue: Option<String>,
    /// The feed found it there when it first looked; when it began is not known.
    pub under_way: bool,
}

/// Whose channel a connector's leg is, in the PBX's own words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoint {
    /// The user part of the device's address-of-record; what is no device of the PBX is a trunk.
    pub user: String,
    /// Its domain, when the PBX names one; else the PBX's own.
    pub domain: Option<String>,
}

/// A caller in a queue's waiting line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queued {
    /// The queue's name on the PBX.
    pub queue: String,
    /// Place in the line, from 1, when the PBX says.
    pub position: Option<u32>,
    /// How long the caller had been waiting already, in milliseconds.
    pub waited_ms: u64,
}

/// Which way an INVITE crossed the PBX's edge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Hop {
    /// A phone or trunk sent it to the PBX.
    ToPbx,
    /// The PBX sent it to a phone or trunk.
    FromPbx,
    /// The feed does not say.
    #[default]
    Unknown,
}

/// A URI as far as it identifies a contact: canonical user, canonical host, port (none = the default).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ContactKey {
    /// Canonical user part; empty when the URI has none.
    pub user: Box<str>,
    /// Canonical host.
    pub host: Box<str>,
    /// Explicit port.
    pub port: Option<u16>,
}

/// Who calls, before the number plan has read it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Caller {
    /// As signalled; empty when withheld.
    pub number: String,
    /// Display name; empty when there is none or it is withheld.
    pub name: String,
    /// The caller asked not to be named.
    pub withheld: bool,
}

/// What an INVITE says about other legs of its call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JoinHints {
    /// Values of `X-CID`, `X-Call-ID`, `X-Linkedid`: the other leg's Call-ID or call key.
    pub other_leg: Vec<String>,
    /// RFC 7989 Session-ID pair (local, remote), lower case, without parameters.
    pub session_id: Option<(String, String)>,
    /// RFC 3891 Replaces: the call key of the dialog it takes over.
    pub replaces: Option<String>,
}

/// How a leg ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case", tag = "how", content = "status")]
pub enum LegEnd {
    /// The caller's side cancelled it before an answer.
    Cancelled,
    /// Cancelled, and the CANCEL said it was answered elsewhere (a hint, RFC 3326).
    CancelledElsewhere,
    /// A final response of 300 or above: its status code (of a feed that is not SIP, the one that fits best).
    Rejected(u16),
    /// BYE after an answer.
    Bye,
    /// Nothing was heard for longer than it may last.
    TimedOut,
    /// It was not there any more when the feed looked again.
    Lost,
}
