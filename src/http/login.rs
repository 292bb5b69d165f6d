//! Logging in and out, as far as the queues are concerned (Q13).
//!
//! Nothing but these two requests ever logs anybody in or out: not a window that is closed, not a stream that is lost, not a
//! restart. What a logout takes away is noted on the user first, so that the next login can give it back whatever happens
//! in between.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Agent;
use super::control;
use super::problem::{Kind, Problem, Result};
use super::responses::Commanding;
use super::state::AppState;
use crate::model::{Device, DeviceId, DeviceState, Member, MemberKind, Parked, Queue, QueueId, QueueLogin, User};
use crate::registry::ChangeError;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(log_in)).routes(routes!(log_out))
}

/// What logging in or out came to in the queues.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LoggedQueues {
    /// The user's setting. With `manual`, queues are left alone.
    queue_login: QueueLogin,
    /// Whether all of it was done.
    done: bool,
    /// What was done to which membership.
    queues: Vec<LoginStep>,
}

/// What was done to one membership.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct LoginStep {
    /// The queue.
    queue: QueueId,
    /// Its name.
    name: String,
    /// The device.
    device: DeviceId,
    /// What was done, or was to be.
    action: LoginAction,
    /// Why it was not done.
    problem: Option<String>,
}

/// What can be done to a membership.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LoginAction {
    /// The device joined the queue.
    Joined,
    /// It takes calls again.
    Resumed,
    /// It left the queue.
    Left,
    /// It stays in the queue and gets no calls.
    Paused,
    /// It is another logged-in user's as well and was left alone.
    Shared,
}

/// Log in
///
/// When the user's `queue_login` is `session`: their phones join the queues they left at the last logout and take calls
/// again where they were paused; of the queues set for the user, those no phone of theirs is in are joined by their
/// connected phones. Else nothing is done. Asking again is fine.
#[utoipa::path(post, path = "/v1/me/login", tag = "me",
    responses((status = 200, description = "What was done", body = LoggedQueues), Commanding))]
async fn log_in(State(state): State<AppState>, me: Agent) -> Result<Json<LoggedQueues>> {
    let user = user(&state, me)?;
    let steps = if user.queue_login == QueueLogin::Session { way_in(&state, &user) } else { Vec::new() };
    let answer = walk(&state, &user, steps).await;
    let given_back = |parked: &Parked| {
        let still = answer.queues.iter().find(|step| (step.queue, step.device) == (parked.queue, parked.device));
        still.is_none_or(|step| step.problem.is_none())
    };
    if user.queue_login == QueueLogin::Session {
        let stored = state.registry.update_user(me.user, None, |user| {
            user.parked.retain(|parked| !given_back(parked));
            Ok(())
        })?;
        state.stored(stored.seq).await?;
    }
    Ok(Json(answer))
}

/// Log out
///
/// When the user's `queue_login` is `session`: their phones leave the queues they joined while the PBX ran, and are paused
/// in those where they stand in its configuration. A phone that another user with `session` has too is left alone. Only this
/// logs anyone out: a closed window, a lost stream or a restart does not.
#[utoipa::path(post, path = "/v1/me/logout", tag = "me",
    responses((status = 200, description = "What was done", body = LoggedQueues), Commanding))]
async fn log_out(State(state): State<AppState>, me: Agent) -> Result<Json<LoggedQueues>> {
    let user = user(&state, me)?;
    let steps = if user.queue_login == QueueLogin::Session { way_out(&state, &user) } else { Vec::new() };
    let parked: Vec<Parked> = steps.iter().filter_map(Planned::parked).collect();
    if !parked.is_empty() {
        // Before anything is taken away: a crash in between loses nothing.
        let stored = state.registry.update_user(me.user, None, |user| {
            let known = |new: &Parked| user.parked.iter().any(|old| (old.queue, old.device) == (new.queue, new.device));
            let new: Vec<Parked> = parked.iter().filter(|new| !known(new)).copied().collect();
            user.parked.extend(new);
            if user.parked.len() > PARKED_MAX {
                return Err(ChangeError::Limit { what: "parked" });
            }
            Ok(())
        })?;
        state.stored(stored.seq).await?;
    }
    Ok(Json(walk(&state, &user, steps).await))
}

/// A step to be made.
struct Planned {
    queue: Arc<Queue>,
    device: Device,
    action: LoginAction,
    penalty: u32,
}

impl Planned {
    /// What the way back has to know.
    fn parked(&self) -> Option<Parked> {
        let parked = Parked { queue: self.queue.id, device: self.device.id, penalty: self.penalty };
        matches!(self.action, LoginAction::Left | LoginAction::Paused).then_some(parked)
    }
}

fn user(state: &AppState, me: Agent) -> Result<Arc<User>> {
    let user = state.registry.users.get(me.user).ok_or_else(|| Problem::not_found("user"))?;
    Ok(user.value.clone())
}

/// The user's phones, and whether each may be moved on their behalf.
fn phones(state: &AppState, user: &User) -> Vec<(Device, DeviceState, bool)> {
    let (views, _) = state.registry.devices_of_user(user.id);
    let others_session = |device: DeviceId| {
        state.registry.links_of_device(device).iter().any(|link| {
            link.value.user != user.id
                && state
                    .registry
                    .users
                    .get(link.value.user)
                    .is_some_and(|other| other.value.queue_login == QueueLogin::Session)
        })
    };
    views.into_iter().map(|view| (view.device.clone(), view.state, others_session(view.device.id))).collect()
}

fn way_out(state: &AppState, user: &User) -> Vec<Planned> {
    let mut steps = Vec::new();
    for (device, _, shared) in phones(state, user) {
        for row in state.registry.queues.referring_to(device.id.0) {
            let queue = row.value.clone();
            let Some(member) = control::on_pbx(&queue, &device).cloned() else { continue };
            let action = match member.kind {
                _ if shared => LoginAction::Shared,
                MemberKind::Dynamic => LoginAction::Left,
                _ if member.paused => continue,
                MemberKind::Static | MemberKind::Realtime | MemberKind::Manual => LoginAction::Paused,
            };
            steps.push(Planned { queue, device: device.clone(), action, penalty: member.penalty });
        }
    }
    steps
}

fn way_in(state: &AppState, user: &User) -> Vec<Planned> {
    let phones = phones(state, user);
    let mut steps: Vec<Planned> = Vec::new();
    for parked in &user.parked {
        let queue = state.registry.queues.get(parked.queue).map(|row| row.value.clone());
        let device = phones.iter().find(|(device, ..)| device.id == parked.device);
        let Some((queue, (device, _, shared))) = queue.zip(device) else { continue };
        let action = match control::on_pbx(&queue, device) {
            _ if *shared => LoginAction::Shared,
            None => LoginAction::Joined,
            Some(Member { paused: true, .. }) => LoginAction::Resumed,
            Some(_) => continue,
        };
        steps.push(Planned { queue, device: device.clone(), action, penalty: parked.penalty });
    }
    for id in &user.queues {
        let Some(queue) = state.registry.queues.get(*id).map(|row| row.value.clone()) else { continue };
        let in_it = phones.iter().any(|(device, ..)| control::on_pbx(&queue, device).is_some());
        if in_it || steps.iter().any(|step| step.queue.id == *id) {
            continue;
        }
        let here =
            phones.iter().filter(|(device, state, _)| device.pbx == queue.pbx && *state == DeviceState::Connected);
        for (device, _, shared) in here {
            let action = if *shared { LoginAction::Shared } else { LoginAction::Joined };
            steps.push(Planned { queue: queue.clone(), device: device.clone(), action, penalty: 0 });
        }
    }
    steps
}

/// Makes the steps, one after the other. A PBX that does not answer is not asked again for the rest of them.
async fn walk(state: &AppState, user: &User, steps: Vec<Planned>) -> LoggedQueues {
    let mut queues: Vec<LoginStep> = Vec::with_capacity(steps.len());
    let mut silent = None;
    for step in steps {
        let Planned { queue, device, action, penalty } = step;
        let outcome = match silent.clone().filter(|(pbx, _)| *pbx == queue.pbx) {
            Some((_, problem)) => Err(problem),
            None => take(state, &queue, &device, action, penalty).await,
        };
        if let Err(problem) = &outcome
            && matches!(problem.kind(), Kind::Unavailable | Kind::NotConfirmed)
        {
            silent = Some((queue.pbx, problem.clone()));
        }
        let problem = outcome.err().map(|problem| problem.detail().to_owned());
        queues.push(LoginStep { queue: queue.id, name: queue.name.clone(), device: device.id, action, problem });
    }
    let done = queues.iter().all(|step| step.problem.is_none());
    LoggedQueues { queue_login: user.queue_login, done, queues }
}

async fn take(state: &AppState, queue: &Queue, device: &Device, action: LoginAction, penalty: u32) -> Result<()> {
    match action {
        LoginAction::Joined => control::join(state, queue, device, penalty).await,
        LoginAction::Left => control::leave(state, queue, device).await,
        LoginAction::Paused => control::pause(state, queue, device, true, Some(REASON.into())).await,
        LoginAction::Resumed => control::pause(state, queue, device, false, None).await,
        LoginAction::Shared => Ok(()),
    }
}

/// What a PBX shows for a member that is paused because its agent logged out.
const REASON: &str = "logged out";
/// Memberships noted for one user.
const PARKED_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use serde_json::{Value, json};

    use crate::http::testing::Office;
    use crate::model::{MemberKind, UserId};
    use crate::registry::{Command, Registry, ReportedMember, ReportedQueue};

    fn member(user: &str, kind: MemberKind) -> ReportedMember {
        ReportedMember { user: user.into(), kind, penalty: 7, ..ReportedMember::default() }
    }

    /// A PBX that does what it is told, and counts it.
    fn obedient(office: &Office) -> Arc<AtomicUsize> {
        let mut commands = office.registry.feeds.take_control(office.pbx);
        let (registry, pbx, told) = (office.registry.clone(), office.pbx, Arc::new(AtomicUsize::new(0)));
        let count = told.clone();
        tokio::spawn(async move {
            while let Some(request) = commands.recv().await {
                count.fetch_add(1, Ordering::SeqCst);
                let _ = request.done.send(Ok(()));
                obey(&registry, pbx, request.command);
            }
        });
        told
    }

    fn obey(registry: &Registry, pbx: crate::model::PbxId, command: Command) {
        let now = registry.clock().now();
        match command {
            Command::AddMember { queue, user, penalty, .. } => {
                let joined = ReportedMember { penalty, ..member(&user, MemberKind::Dynamic) };
                registry.member_reported(pbx, &queue, joined, now);
            }
            Command::SetPenalty { .. } => panic!("a login changes no penalty"),
            Command::RemoveMember { queue, user } => registry.member_gone(pbx, &queue, &user, now),
            Command::Pause { queue, user, paused, reason } => {
                let paused = ReportedMember { paused, pause_reason: reason, ..member(&user, MemberKind::Static) };
                registry.member_reported(pbx, &queue.unwrap_or_default(), paused, now);
            }
        }
    }

    /// Ann's phone 101 is a dynamic member of sales and a static one of support.
    async fn office() -> (Office, UserId, String) {
        let office = Office::open().await;
        let (user, agent) = office.user("ann").await;
        let device = office.phone("101").await;
        assert_eq!(office.put(&format!("/v1/users/{user}/devices/{device}")).await.status, 201);
        assert_eq!(office.patch(&format!("/v1/pbxs/{}", office.pbx), &json!({"control": true})).await.status, 200);
        let queue =
            |name: &str, kind| ReportedQueue { name: name.into(), number: None, members: vec![member("101", kind)] };
        let queues = vec![queue("sales", MemberKind::Dynamic), queue("support", MemberKind::Static)];
        office.registry.queues_reported(office.pbx, queues, office.clock.now());
        (office, user, agent)
    }

    async fn members(office: &Office) -> Vec<Value> {
        let queues = office.get("/v1/queues").await.items("members");
        queues.iter().map(|members| members.get(0).map_or(json!(null), |member| member["paused"].clone())).collect()
    }

    #[tokio::test]
    async fn q13_an_explicit_logout_logs_out_of_the_queues_and_a_login_undoes_it() {
        let (office, user, agent) = office().await;
        obedient(&office);
        let setting = json!({"queue_login": "session"});
        assert_eq!(office.patch(&format!("/v1/users/{user}"), &setting).await.json["queue_login"], "session");
        let call = async |path: &str| office.call("POST", path, &agent, &[], None).await;
        let out = call("/v1/me/logout").await;
        assert_eq!((out.status, &out.json["done"]), (200, &json!(true)), "{out:?}");
        let actions: Vec<_> = out.json["queues"].as_array().unwrap().iter().map(|q| q["action"].clone()).collect();
        assert_eq!(actions, [json!("left"), json!("paused")]);
        assert_eq!(members(&office).await, [json!(null), json!(true)]);
        assert_eq!(call("/v1/me/logout").await.json["queues"], json!([]), "out is out");
        let back = call("/v1/me/login").await;
        assert_eq!(back.json["done"], json!(true));
        assert_eq!(members(&office).await, [json!(false), json!(false)]);
        let sales = &office.get("/v1/queues").await.json["items"][0]["members"][0];
        assert_eq!(sales["penalty"], 7, "as it was");
        assert_eq!(office.get(&format!("/v1/users/{user}")).await.json["parked"], json!([]));
        assert_eq!(call("/v1/me/login").await.json["queues"], json!([]));
    }

    #[tokio::test]
    async fn q13_nobody_is_logged_out_who_did_not_ask_for_it() {
        let (office, user, agent) = office().await;
        let told = obedient(&office);
        let call = async |path: &str| office.call("POST", path, &agent, &[], None).await;
        let manual = call("/v1/me/logout").await;
        assert_eq!((&manual.json["queue_login"], &manual.json["queues"]), (&json!("manual"), &json!([])));
        assert_eq!(office.patch(&format!("/v1/users/{user}"), &json!({"queue_login": "session"})).await.status, 200);
        // The window is closed, and its stream with it.
        let mut window = office.stream("/v1/me/popups/stream", &agent, &[]).await;
        window.next().await.unwrap();
        drop(window);
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        assert_eq!((told.load(Ordering::SeqCst), members(&office).await), (0, vec![json!(false), json!(false)]));
    }

    #[tokio::test]
    async fn q13_a_login_joins_the_queues_that_are_set_for_the_user() {
        let (office, user, agent) = office().await;
        obedient(&office);
        let help = ReportedQueue { name: "help".into(), ..ReportedQueue::default() };
        office.registry.queue_reported(office.pbx, help, office.clock.now());
        let help = office.get("/v1/queues").await.json["items"][0]["id"].clone();
        let edit = json!({"queue_login": "session", "queues": [help]});
        assert_eq!(office.patch(&format!("/v1/users/{user}"), &edit).await.status, 200);
        let joined = office.call("POST", "/v1/me/login", &agent, &[], None).await;
        assert_eq!((&joined.json["queues"][0]["action"], &joined.json["done"]), (&json!("joined"), &json!(true)));
        assert_eq!(members(&office).await, vec![json!(false); 3]);
    }

    #[tokio::test]
    async fn q13_a_phone_of_two_stays_and_a_pbx_that_is_away_is_told_and_nothing_is_forgotten() {
        let (office, user, agent) = office().await;
        let (other, _) = office.user("bob").await;
        for user in [user, other] {
            assert_eq!(
                office.patch(&format!("/v1/users/{user}"), &json!({"queue_login": "session"})).await.status,
                200
            );
        }
        let device = office.get("/v1/devices?q=101").await.json["items"][0]["id"].as_str().unwrap().to_owned();
        let call = async |path: &str| office.call("POST", path, &agent, &[], None).await;
        let away = call("/v1/me/logout").await;
        assert_eq!(away.json["done"], json!(false));
        assert!(away.json["queues"][1]["problem"].as_str().unwrap().contains("no feed"), "{away:?}");
        let parked = office.get(&format!("/v1/users/{user}")).await.json["parked"].clone();
        assert_eq!(parked.as_array().unwrap().len(), 2, "noted before it is done");
        assert_eq!(call("/v1/me/login").await.json["queues"], json!([]), "they are in all the time");
        assert_eq!(office.put(&format!("/v1/users/{other}/devices/{device}")).await.status, 201);
        let told = obedient(&office);
        let shared = call("/v1/me/logout").await;
        assert_eq!((&shared.json["queues"][0]["action"], told.load(Ordering::SeqCst)), (&json!("shared"), 0));
    }
}
