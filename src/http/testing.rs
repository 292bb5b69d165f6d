//! An office to try the API on: a real registry over a temporary database, and a client that holds every answer against
//! the OpenAPI document.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Request, header};
use serde_json::{Value, json};
use sqlx::Connection as _;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::secret::Secret;
use super::state::{AppState, Settings};
use crate::clock::Clock;
use crate::ingest::site::Sites;
use crate::ingest::webhook::Webhook;
use crate::model::{
    Account, AccountId, AccountSettings, Binding, BindingSource, Call, CallId, CallState, CallUser, DeviceId,
    Direction, Leg, LegKey, LegRole, LegState, NumberPlan, Offer, OfferId, OfferState, Party, PbxId, Scope, Token,
    TokenId, Transport, UnixMillis, UserAction, UserId,
};
use crate::registry::{Change, Limits, Registry};
use crate::sealing::{Key, Keys};
use crate::store::Store;

/// One office, its clock and its admin.
pub struct Office {
    pub registry: Arc<Registry>,
    pub clock: Clock,
    pub account: AccountId,
    pub pbx: PbxId,
    /// The secret of an admin token that names no user.
    pub admin: String,
    router: Router,
    document: Value,
    folder: tempfile::TempDir,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub json: Value,
}

impl Office {
    pub async fn open() -> Self {
        Self::waiting(Duration::from_secs(20)).await
    }

    /// An office whose answers wait this long for the database.
    pub async fn waiting(commit_wait: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&format!("sqlite:{}", folder.path().join("test.db").display())).await.unwrap();
        let key = Key::parse(&"5".repeat(64)).expect("32 bytes");
        let store = store.unlock(Keys::new(key, Vec::new())).await.unwrap();
        let clock = Clock::manual(UnixMillis(1_777_883_400_000));
        let limits = Limits { commit_wait, ..Limits::default() };
        let registry = Registry::open(store, clock.clone(), limits).await.unwrap();
        let defaults = registry.ensure_defaults().unwrap();
        let settings = Settings {
            body_bytes_max: 16 * 1024,
            heartbeat: Duration::from_millis(50),
            confirm_wait: Duration::from_millis(400),
        };
        let sites = Sites::new(registry.clone(), &TaskTracker::new(), &CancellationToken::new(), &Handle::current());
        let webhook = Arc::new(Webhook::new(registry.clone(), sites));
        let state = AppState {
            registry: registry.clone(),
            webhook,
            clock: clock.clone(),
            realm: "office.example".into(),
            settings,
        };
        let document = serde_json::to_value(super::documented().1).unwrap();
        let mut office = Self {
            registry,
            clock,
            account: defaults.account,
            pbx: defaults.pbx,
            admin: String::new(),
            router: super::router(state),
            document,
            folder,
        };
        office.admin = office.token(office.account, Scope::Admin, None, None);
        while !office.registry.is_stored(office.registry.latest()) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        office
    }

    /// Holds the database's write lock until it is dropped: nothing can be committed meanwhile.
    pub async fn stall(&self) -> sqlx::SqliteConnection {
        let url = format!("sqlite:{}", self.folder.path().join("test.db").display());
        let mut connection = sqlx::SqliteConnection::connect(&url).await.unwrap();
        sqlx::query("BEGIN IMMEDIATE").execute(&mut connection).await.unwrap();
        connection
    }

    /// A token made behind the API's back.
    pub fn token(&self, account: AccountId, scope: Scope, user: Option<UserId>, pbx: Option<PbxId>) -> String {
        let secret = Secret::generate().unwrap();
        let id = TokenId(self.clock.uuid());
        let (hash, label) = (secret.hash(), "test".to_owned());
        let created_at = self.clock.now().unix;
        let token = Token { id, account, scope, user, pbx, label, hash, created_at, expires_at: None };
        self.registry.create_token(token).unwrap();
        secret.reveal().to_owned()
    }

    /// An account beside this office's, and its admin's token.
    pub fn stranger(&self) -> (AccountId, String) {
        let account = Account {
            id: AccountId(self.clock.uuid()),
            parent: None,
            name: "Another office".into(),
            domains: vec![],
            number_plan: NumberPlan::default(),
            settings: AccountSettings::default(),
            created_at: self.clock.now().unix,
        };
        let account = self.registry.create_account(account).unwrap().value.id;
        (account, self.token(account, Scope::Admin, None, None))
    }

    /// A user made through the API, enabled, and an agent token of theirs.
    pub async fn user(&self, name: &str) -> (UserId, String) {
        let body = json!({"name": name, "email": format!("{name}@office.example"), "enabled": true});
        let created = self.post("/v1/users", &body).await;
        assert_eq!(created.status, 201, "{created:?}");
        let user = created.id().parse().unwrap();
        (user, self.token(self.account, Scope::Agent, Some(user), None))
    }

    /// A phone that registers with the default PBX, for an hour.
    pub async fn phone(&self, user: &str) -> DeviceId {
        let target = self.registry.resolve(self.pbx, user, "pbx.local").unwrap();
        let now = self.clock.now();
        let binding = Binding {
            contact: format!("sip:{user}@192.0.2.7:5060").into(),
            expires_at: now.tick + 3_600_000,
            q: 1000,
            transport: Transport::Udp,
            source: BindingSource::Registrar,
            cseq: 1,
            call_id: format!("{user}@192.0.2.7").into(),
            received: "192.0.2.7:5060".parse().ok(),
            user_agent: Some("Fictional Phone/1.0".into()),
            path: None,
            instance: None,
            reg_id: None,
            refreshed_at: now.unix,
        };
        let set = |_: &[Binding]| (Change::Set(vec![binding]), ());
        let registered = self.registry.register(&target, BindingSource::Registrar, now, set);
        self.registry.committed(registered.seq.unwrap()).await.unwrap();
        registered.device
    }

    /// An inbound call that rings `device`, with an offer for `user`, live from now on.
    pub fn ring(&self, device: DeviceId, user: UserId) -> Call {
        let site = self.registry.pbxs.get(self.pbx).unwrap().value.site;
        let now = self.clock.now().unix;
        let id = CallId(self.clock.uuid());
        let number = Some("+14155550123".to_owned());
        let caller = Arc::new(Party { number, external: true, ..Party::default() });
        let offer = Offer {
            id: OfferId::derive(site, id, user),
            account: self.account,
            call: id,
            user,
            state: OfferState::Offered,
            reason: None,
            device: Some(device),
            queue: None,
            direction: Direction::Inbound,
            caller: caller.clone(),
            callee: Arc::default(),
            offered_at: now,
            answered_at: None,
            closed_at: None,
            expires_at: UnixMillis(now.0 + 120_000),
            version: 1,
        };
        // A call without a leg turned out to be another one, and is kept nowhere.
        let leg = Leg {
            key: LegKey(id.to_string().into()),
            call_key: id.to_string().into(),
            pbx: self.pbx,
            role: LegRole::ToDevice,
            device: Some(device),
            state: LegState::Ringing,
            began_at: now,
            rang_at: Some(now),
            answered_at: None,
            ended_at: None,
            end: None,
        };
        let call = Call {
            id,
            account: self.account,
            site,
            pbx: self.pbx,
            state: CallState::Ringing,
            direction: Direction::Inbound,
            caller,
            callee: Party { device: Some(device), ..Party::default() }.into(),
            queue: None,
            waiting: None,
            began_at: now,
            answered_at: None,
            ended_at: None,
            outcome: None,
            ring_ms: 0,
            talk_ms: 0,
            legs: vec![leg],
            users: vec![CallUser { user, device, action: UserAction::Rang }],
            offers: vec![offer],
        };
        self.change(call.clone());
        call
    }

    /// Notes how a call now stands and tells whose screens it is on.
    pub fn change(&self, call: Call) {
        let call = Arc::new(call);
        self.registry.live.put_call(call.clone());
        for offer in &call.offers {
            self.registry.streams.publish_offer(offer, self.clock.now().tick);
        }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, &self.admin, &[], None).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.call("POST", path, &self.admin, &[], Some(body)).await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.call("PATCH", path, &self.admin, &[], Some(body)).await
    }

    pub async fn put(&self, path: &str) -> Answer {
        self.call("PUT", path, &self.admin, &[], None).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.call("DELETE", path, &self.admin, &[], None).await
    }

    /// Calls with this token; an empty one sends none.
    pub async fn call(
        &self,
        method: &str,
        path: &str,
        token: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !token.is_empty() {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        if body.is_some() {
            request = request.header(header::CONTENT_TYPE, "application/json");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = body.map_or_else(Body::empty, |body| Body::from(body.to_string()));
        self.send(request.body(body).unwrap()).await
    }

    /// Sends a request as it is; the whole answer must be there within seconds.
    pub async fn send(&self, request: Request<Body>) -> Answer {
        let (method, path) = (request.method().as_str().to_lowercase(), request.uri().path().to_owned());
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 10_000_000);
        let body = tokio::time::timeout(Duration::from_secs(30), body).await.unwrap().unwrap();
        let json = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
        self.assert_documented(&method, &path, parts.status.as_u16(), &json);
        Answer { status: parts.status.as_u16(), headers: parts.headers, json }
    }

    /// Opens an event stream.
    pub async fn stream(&self, path: &str, token: &str, headers: &[(&str, &str)]) -> Events {
        let mut request = Request::builder().uri(path).header(header::AUTHORIZATION, format!("Bearer {token}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        assert_eq!(response.status(), 200);
        Events { stream: response.into_body().into_data_stream(), text: String::new() }
    }

    /// A status that the document does not list for a route is a gap in the document.
    fn assert_documented(&self, method: &str, path: &str, status: u16, json: &Value) {
        let Some(item) = self.route(path) else { return assert_eq!(status, 404, "{path} is not documented") };
        let Some(operation) = item.get(method) else { return assert_eq!(status, 405, "{method} {path}") };
        let responses = &operation["responses"];
        assert!(responses.get(status.to_string()).is_some(), "{method} {path} → {status} is not documented: {json}");
    }

    fn route(&self, path: &str) -> Option<&Value> {
        let segments: Vec<&str> = path.split('/').collect();
        let fits = |template: &str| {
            let of_template: Vec<&str> = template.split('/').collect();
            of_template.len() == segments.len()
                && of_template.iter().zip(&segments).all(|(of, is)| of.starts_with('{') || of == is)
        };
        let mut found: Vec<_> = self.document["paths"].as_object()?.iter().filter(|(path, _)| fits(path)).collect();
        // `/devices/choices` before `/devices/{id}`.
        found.sort_by_key(|(template, _)| template.matches('{').count());
        found.first().map(|(_, item)| *item)
    }
}

impl Answer {
    /// `id` of what came back.
    pub fn id(&self) -> &str {
        self.json["id"].as_str().unwrap()
    }

    /// `ETag`.
    pub fn etag(&self) -> &str {
        self.headers[header::ETAG].to_str().unwrap()
    }

    /// Status and the last part of the problem's type.
    pub fn problem(&self) -> (u16, &str) {
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json", "{self:?}");
        assert_eq!(self.json["status"], self.status);
        (self.status, self.json["type"].as_str().unwrap().strip_prefix("/problems/").unwrap())
    }

    /// `field` of each item of a page.
    pub fn items(&self, field: &str) -> Vec<Value> {
        assert_eq!(self.status, 200, "{self:?}");
        self.json["items"].as_array().unwrap().iter().map(|item| item[field].clone()).collect()
    }
}

/// An open event stream.
pub struct Events {
    stream: axum::body::BodyDataStream,
    text: String,
}

impl Events {
    /// The next event that is not a comment: id, name, data.
    pub async fn next(&mut self) -> Option<(String, String, Value)> {
        use futures_util::StreamExt as _;

        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let (block, rest) = (block.to_owned(), rest.to_owned());
                self.text = rest;
                let field = |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
                if !field("data: ").is_empty() {
                    let data = serde_json::from_str(field("data: ")).unwrap();
                    return Some((field("id: ").to_owned(), field("event: ").to_owned(), data));
                }
                continue;
            }
            let bytes = tokio::time::timeout(Duration::from_secs(30), self.stream.next()).await.unwrap()?.unwrap();
            self.text.push_str(std::str::from_utf8(&bytes).unwrap());
        }
    }
}
