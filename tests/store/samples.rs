//! One of everything.

use std::borrow::Cow;
use std::sync::Arc;

use hookswitch::clock::Clock;
use hookswitch::model::{
    Account, AccountId, AccountSettings, Binding, BindingSource, Call, CallId, CallState, CallUser, DeviceId,
    Direction, Leg, LegEnd, LegKey, LegRole, LegState, Link, Member, NumberPlan, Offer, OfferId, OfferState,
    OutboundNotice, Outcome, Parked, Party, Pbx, PbxId, PopOn, Queue, QueueId, QueueLogin, QueueNotice, QueueRule,
    Reason, RegistrationSettings, Scope, Site, SiteId, Token, TokenId, TrailEntry, Transport, UnixMillis, User,
    UserAction, UserId, UserQueues,
};
use hookswitch::registry::{Change, Defaults, Registered, Registry, Seq, Target};

/// When the tests happen.
pub const START: UnixMillis = UnixMillis(1_790_000_000_000);

pub fn user(registry: &Registry, account: AccountId, name: &str) -> User {
    User {
        id: UserId(registry.clock().uuid()),
        account,
        email: Some(format!("{name}@office.example")),
        name: name.into(),
        enabled: true,
        dnd: true,
        pop_on: PopOn::Answer,
        queues: Vec::new(),
        queue_login: QueueLogin::Session,
        parked: vec![Parked { queue: QueueId(registry.clock().uuid()), device: DeviceId(account.0), penalty: 3 }],
        created_at: START,
    }
}

pub fn account(registry: &Registry, parent: Option<AccountId>) -> Account {
    Account {
        id: AccountId(registry.clock().uuid()),
        parent,
        name: "Bäckerei \"Süd\" \\ 日本".into(),
        domains: vec!["sued.example".into()],
        number_plan: NumberPlan {
            dids: vec!["+14155550100".into()],
            outside_prefix: Some("0".into()),
            ..NumberPlan::default()
        },
        settings: AccountSettings {
            queue_notice: QueueNotice::Join,
            outbound: OutboundNotice::Answer,
            internal_popups: true,
            user_queues: UserQueues::FollowPbx,
            registration: RegistrationSettings { contacts_max: Some(3), ..RegistrationSettings::default() },
        },
        created_at: START,
    }
}

pub fn site(registry: &Registry, account: AccountId) -> Site {
    Site { id: SiteId(registry.clock().uuid()), account, name: "Nord".into(), created_at: START }
}

pub fn pbx(registry: &Registry, site: &Site) -> Pbx {
    Pbx {
        id: PbxId(registry.clock().uuid()),
        account: site.account,
        site: site.id,
        name: "PBX 2".into(),
        domain: "nord.example".into(),
        aliases: vec!["alt.example".into()],
        any_domain: false,
        networks: vec!["192.0.2.0/24".into(), "2001:db8::/32".into()],
        passive_expires_max_s: 7_200,
        passive_grace_s: 60,
        queue_rules: Vec::new(),
        control: true,
        created_at: START,
    }
}

pub fn queue(registry: &Registry, pbx: &Pbx, device: Option<DeviceId>) -> Queue {
    let member = |device| Member::manual(device, true, Some("lunch".into()), START);
    Queue {
        id: QueueId(registry.clock().uuid()),
        account: pbx.account,
        pbx: pbx.id,
        name: "Support".into(),
        number: Some("600".into()),
        members: device.map(member).into_iter().collect(),
        reported: true,
        absent_since: Some(START),
        created_at: START,
    }
}

pub fn rules(queue: QueueId) -> Vec<QueueRule> {
    vec![
        QueueRule::Dialled { number: "600".into(), queue },
        QueueRule::Header { name: "X-Queue".into(), value: None, queue: Some(queue) },
        QueueRule::NamePrefix { prefix: "SALES#".into(), queue },
    ]
}

pub fn token(registry: &Registry, account: AccountId, user: Option<UserId>) -> Token {
    let id = TokenId(registry.clock().uuid());
    Token {
        id,
        account,
        scope: if user.is_some() { Scope::Agent } else { Scope::Admin },
        user,
        pbx: None,
        label: "wallboard".into(),
        hash: format!("{:064x}", id.0.as_u128()),
        created_at: START,
        expires_at: Some(UnixMillis(START.0 + 86_400_000)),
    }
}

pub fn binding(registry: &Registry, user: &str, source: BindingSource, expires_ms: u64) -> Binding {
    let now = registry.clock().now();
    Binding {
        contact: format!("sip:{user}@192.0.2.10:5062;transport=udp").into(),
        expires_at: now.tick + expires_ms,
        q: 700,
        transport: Transport::Udp,
        source,
        cseq: 17,
        call_id: format!("{user}-call@192.0.2.10").into(),
        received: "198.51.100.7:40001".parse().ok(),
        user_agent: Some("Fictional Phone 9.1 \"quoted\"".into()),
        path: Some("<sip:edge.example;lr>".into()),
        instance: Some("urn:uuid:00000000-0000-1000-8000-000a95a0e128".into()),
        reg_id: Some(1),
        refreshed_at: now.unix,
    }
}

pub fn target<'a>(defaults: &Defaults, user: &'a str) -> Target<'a> {
    Target::new(defaults.account, defaults.pbx, Cow::Borrowed(user))
}

/// A phone registers with us for an hour; what its 200 waits for.
pub fn register(registry: &Registry, defaults: &Defaults, user: &str) -> (DeviceId, Seq) {
    let bound = vec![binding(registry, user, BindingSource::Registrar, 3_600_000)];
    let done = set_bindings(registry, defaults, user, BindingSource::Registrar, bound);
    (done.device, done.seq.expect("a change to wait for"))
}

pub fn set_bindings(
    registry: &Registry,
    defaults: &Defaults,
    user: &str,
    source: BindingSource,
    bindings: Vec<Binding>,
) -> Registered<()> {
    registry.register(&target(defaults, user), source, registry.clock().now(), |_| (Change::Set(bindings), ()))
}

pub fn trail(call: CallId, position: u32) -> TrailEntry {
    TrailEntry {
        call,
        position,
        at: START,
        user: Some(UserId(Clock::system().uuid())),
        reason: Reason::QueueNotSet,
        device: None,
        queue: Some(QueueId(Clock::system().uuid())),
        sessions: 2,
        event: "180 Ringing, Call-ID 1@atlanta.example".into(),
    }
}

/// A finished call of `user` on `device`; `n` makes it a different one, `n` seconds after the start.
pub fn call(defaults: &Defaults, n: u32, user: UserId, device: DeviceId) -> Call {
    let id = CallId::derive(defaults.site, &format!("leg-{n}"));
    let began_at = UnixMillis(START.0 + i64::from(n) * 1000);
    let ended_at = Some(UnixMillis(began_at.0 + 30_000));
    let caller = Party {
        number: Some("+14155550123".into()),
        name: Some("Zoë \u{1f4de}".into()),
        external: true,
        ..Party::default()
    };
    let caller = std::sync::Arc::new(caller);
    let dialled = Party { number: Some("101".into()), device: Some(device), ..Party::default() };
    let dialled = std::sync::Arc::new(dialled);
    let offer = Offer {
        id: OfferId::derive(defaults.site, id, user),
        account: defaults.account,
        call: id,
        user,
        state: OfferState::Ended,
        reason: None,
        device: Some(device),
        queue: None,
        direction: Direction::Inbound,
        caller: caller.clone(),
        callee: dialled.clone(),
        offered_at: began_at,
        answered_at: Some(began_at),
        closed_at: ended_at,
        expires_at: UnixMillis(began_at.0 + 60_000),
        version: 3,
    };
    let leg = Leg {
        key: LegKey(Arc::from(format!("leg-{n}"))),
        call_key: format!("leg-{n}").into(),
        pbx: defaults.pbx,
        role: LegRole::ToDevice,
        device: Some(device),
        state: LegState::Ended,
        began_at,
        rang_at: Some(began_at),
        answered_at: Some(began_at),
        ended_at,
        end: Some(LegEnd::Rejected(486)),
    };
    Call {
        id,
        account: defaults.account,
        site: defaults.site,
        pbx: defaults.pbx,
        state: CallState::Ended,
        direction: Direction::Inbound,
        caller,
        callee: dialled,
        queue: None,
        waiting: None,
        began_at,
        answered_at: Some(began_at),
        ended_at,
        outcome: Some(Outcome::Answered),
        ring_ms: 4_000,
        talk_ms: 26_000,
        legs: vec![leg],
        users: vec![CallUser { user, device, action: UserAction::Answered }],
        offers: vec![offer],
    }
}

/// The same call while it rings.
pub fn ringing(call: &Call) -> Call {
    let mut call = Call { state: CallState::Ringing, answered_at: None, ended_at: None, outcome: None, ..call.clone() };
    for offer in &mut call.offers {
        offer.state = OfferState::Offered;
        offer.closed_at = None;
    }
    call
}

/// Everything about links but who made them.
pub fn facts(link: &Link) -> (DeviceId, UserId, UnixMillis, Option<UnixMillis>) {
    (link.device, link.user, link.began_at, link.ended_at)
}
