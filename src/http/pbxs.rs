//! Phone systems.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{Tagged, edited, page_of, removed};
use super::auth::{Admin, AdminOrPbx};
use super::body::{Body, MergePatch};
use super::etag::IfMatch;
use super::pbx_edit::PbxEdit;
use super::problem::{Problem, Result};
use super::query::{Ids, Listed, Page, Paging};
use super::responses::{Creating, Editing, Listing, Reading, Removing};
use super::state::AppState;
use crate::model::{AccountId, Pbx, PbxId, SiteId};
use crate::registry::FeedStatus;
use crate::store::Stored;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_pbxs, create_pbx)).routes(routes!(read_pbx, edit_pbx, delete_pbx))
}

/// A PBX and the feeds that tell of it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PbxAnswer {
    /// The PBX.
    #[serde(flatten)]
    pbx: Pbx,
    /// Its feeds since the start: connectors, and the listeners its packets came to.
    feeds: Vec<FeedStatus>,
}

/// Which PBXs to list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct PbxFilter {
    /// Of this account; by default the token's own.
    account: Option<AccountId>,
    /// Of this site only.
    site: Option<SiteId>,
}

/// List PBXs
///
/// An account's phone systems, by name.
#[utoipa::path(get, path = "/v1/pbxs", tag = "pbxs", params(PbxFilter, Paging),
    responses((status = 200, description = "A page of PBXs", body = Page<PbxAnswer>), Listing))]
async fn list_pbxs(
    State(state): State<AppState>,
    admin: Admin,
    Listed(filter, paging): Listed<PbxFilter>,
) -> Result<Json<Page<PbxAnswer>>> {
    let account = admin.account(&state, filter.account)?;
    let after = paging.after(LIST)?;
    let wanted = |pbx: &Pbx| filter.site.is_none_or(|site| pbx.site == site);
    let page = state.registry.pbxs.page(account, after, paging.limit.0, wanted);
    page_of(&state, LIST, page, |pbx| PbxAnswer::of(&state, pbx)).await
}

/// Create a PBX
///
/// Queue rules name queues of this PBX, so they are set once it and its queues exist.
#[utoipa::path(post, path = "/v1/pbxs", tag = "pbxs", request_body = PbxEdit,
    responses((status = 201, description = "The new PBX", body = PbxAnswer,
        headers(("ETag" = String), ("Location" = String))), Creating))]
async fn create_pbx(
    State(state): State<AppState>,
    admin: Admin,
    Body(edit): Body<PbxEdit>,
) -> Result<Tagged<PbxAnswer>> {
    let account = admin.account(&state, edit.account)?;
    let id = PbxId(state.clock.uuid());
    let pbx = edit.checked(&state, account, id)?.into_pbx(id, account, state.clock.now().unix);
    let stored = state.registry.create_pbx(pbx)?;
    let location = format!("/v1/pbxs/{}", stored.value.id);
    Tagged::created(&state, PbxAnswer::of(&state, &stored.value), stored.seq, location).await
}

/// Read a PBX
#[utoipa::path(get, path = "/v1/pbxs/{id}", tag = "pbxs", params(("id" = PbxId, Path)),
    responses((status = 200, description = "The PBX", body = PbxAnswer, headers(("ETag" = String))), Reading))]
async fn read_pbx(State(state): State<AppState>, caller: AdminOrPbx, Ids(id): Ids<PbxId>) -> Result<Tagged<PbxAnswer>> {
    let stored = state.registry.pbxs.get(id).filter(|pbx| caller.reaches(&state, pbx.value.account, id));
    let stored = stored.ok_or_else(|| Problem::not_found("PBX"))?;
    Tagged::ok(&state, PbxAnswer::of(&state, &stored.value), stored.seq).await
}

/// Edit a PBX
///
/// A merge patch (RFC 7396). Lists are replaced as a whole.
#[utoipa::path(patch, path = "/v1/pbxs/{id}", tag = "pbxs",
    params(("id" = PbxId, Path), ("If-Match" = Option<String>, Header)),
    request_body(content = PbxEdit, content_type = "application/merge-patch+json"),
    responses((status = 200, description = "The PBX as it is now", body = PbxAnswer, headers(("ETag" = String))), Editing))]
async fn edit_pbx(
    State(state): State<AppState>,
    admin: Admin,
    Ids(id): Ids<PbxId>,
    versions: IfMatch,
    patch: MergePatch,
) -> Result<Tagged<PbxAnswer>> {
    let current = seen(&state, admin, id)?;
    let stored = edited(
        |edit| state.registry.update_pbx(id, versions.expected(current.seq), edit),
        |pbx: &mut Pbx| {
            let before = PbxEdit::of(pbx);
            let edit = patch.applied_to(&before)?;
            if edit.account != before.account {
                return Err(Problem::invalid("/account", "a PBX can't move to another account"));
            }
            *pbx = edit.checked(&state, pbx.account, id)?.into_pbx(pbx.id, pbx.account, pbx.created_at);
            Ok(())
        },
    )?;
    Tagged::ok(&state, PbxAnswer::of(&state, &stored.value), stored.seq).await
}

/// Delete a PBX
///
/// It must have no devices and no queues. Its tokens go with it.
#[utoipa::path(delete, path = "/v1/pbxs/{id}", tag = "pbxs",
    params(("id" = PbxId, Path), ("If-Match" = Option<String>, Header)),
    responses((status = 204, description = "It is gone"), Removing))]
async fn delete_pbx(
    State(state): State<AppState>,
    admin: Admin,
    Ids(id): Ids<PbxId>,
    versions: IfMatch,
) -> Result<StatusCode> {
    let current = seen(&state, admin, id)?;
    removed(&state, state.registry.delete_pbx(id, versions.expected(current.seq))).await
}

/// The PBX, when the admin may see it.
///
/// # Errors
/// 404 when there is none, or none of the admin's accounts.
pub fn seen(state: &AppState, admin: Admin, id: PbxId) -> Result<Arc<Stored<Pbx>>> {
    let stored = state.registry.pbxs.get(id).filter(|pbx| admin.0.reaches(state, pbx.value.account));
    stored.ok_or_else(|| Problem::not_found("PBX"))
}

impl PbxAnswer {
    fn of(state: &AppState, pbx: &Pbx) -> Self {
        Self { feeds: state.registry.feeds.of(pbx.id, state.clock.now()), pbx: pbx.clone() }
    }
}

const LIST: &str = "pbxs";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::http::testing::Office;
    use crate::model::{FeedKind, Scope};

    async fn site(office: &Office) -> serde_json::Value {
        office.post("/v1/sites", &json!({"name": "Berlin"})).await.json["id"].clone()
    }

    #[tokio::test]
    async fn a_pbx_is_created_with_defaults_edited_and_deleted() {
        let office = Office::open().await;
        let body = json!({"site": site(&office).await, "name": "Asterisk", "domain": "PBX.Example",
            "networks": ["192.0.2.77/24"], "aliases": ["192.0.2.10"]});
        let created = office.post("/v1/pbxs", &body).await;
        assert_eq!(created.status, 201, "{created:?}");
        assert_eq!(created.json["domain"], "pbx.example");
        assert_eq!(created.json["networks"], json!(["192.0.2.0/24"]));
        assert_eq!((&created.json["any_domain"], &created.json["control"]), (&json!(true), &json!(false)));
        let path = format!("/v1/pbxs/{}", created.id());
        let edited = office.patch(&path, &json!({"aliases": [], "any_domain": false})).await;
        assert_eq!((&edited.json["aliases"], &edited.json["any_domain"]), (&json!([]), &json!(false)));
        assert_eq!(edited.json["domain"], "pbx.example");
        assert_eq!(office.get("/v1/pbxs").await.items("name"), ["Asterisk", "default"]);
        assert_eq!(office.delete(&path).await.status, 204);
        assert_eq!(office.get(&path).await.status, 404);
    }

    #[tokio::test]
    async fn queue_rules_name_queues_of_this_pbx() {
        let office = Office::open().await;
        let pbx = format!("/v1/pbxs/{}", office.pbx);
        let queue = office.post("/v1/queues", &json!({"pbx": office.pbx, "name": "sales", "number": "800"})).await;
        let queue = queue.json["id"].clone();
        let rules = json!([{"match": "dialled", "number": "800", "queue": queue},
            {"match": "header", "name": "X-Queue", "value": null, "queue": null},
            {"match": "name_prefix", "prefix": "SALES: ", "queue": queue}]);
        let edited = office.patch(&pbx, &json!({ "queue_rules": rules })).await;
        assert_eq!((edited.status, &edited.json["queue_rules"]), (200, &rules), "{edited:?}");
        assert_eq!(office.delete(&format!("/v1/queues/{}", queue.as_str().unwrap())).await.problem(), (409, "in-use"));
        let unknown = json!([{"match": "dialled", "number": "1", "queue": office.account}]);
        let refused = office.patch(&pbx, &json!({ "queue_rules": unknown })).await;
        assert_eq!(
            (refused.problem(), &refused.json["pointer"]),
            ((422, "invalid-value"), &json!("/queue_rules/0/queue"))
        );
        let bad = json!([{"match": "header", "name": "X Queue", "value": null, "queue": null}]);
        let refused = office.patch(&pbx, &json!({ "queue_rules": bad })).await;
        assert_eq!((refused.status, &refused.json["pointer"]), (422, &json!("/queue_rules/0/name")));
        let unread = office.patch(&pbx, &json!({"queue_rules": [{"match": "guess"}]})).await;
        assert_eq!((unread.problem(), &unread.json["pointer"]), ((400, "bad-body"), &json!("/queue_rules/0/match")));
    }

    #[tokio::test]
    async fn bad_values_are_named_by_pointer() {
        let office = Office::open().await;
        let site = site(&office).await;
        let good = json!({"site": site, "name": "Asterisk", "domain": "pbx.example"});
        for (member, value, pointer) in [
            ("domain", json!("sip:pbx.example"), "/domain"),
            ("networks", json!(["192.0.2.0/33"]), "/networks/0"),
            ("site", json!(office.account), "/site"),
            ("passive_expires_max_s", json!(5), "/passive_expires_max_s"),
            ("passive_grace_s", json!(100_000), "/passive_grace_s"),
        ] {
            let mut body = good.clone();
            body[member] = value;
            let refused = office.post("/v1/pbxs", &body).await;
            assert_eq!((refused.problem().0, refused.json["pointer"].as_str()), (422, Some(pointer)));
        }
    }

    #[tokio::test]
    async fn a_pbx_token_reads_its_own_pbx_and_no_other() {
        let office = Office::open().await;
        let body = json!({"site": site(&office).await, "name": "Other", "domain": "other.example"});
        let other = office.post("/v1/pbxs", &body).await.id().to_owned();
        let token = office.token(office.account, Scope::Pbx, None, Some(office.pbx));
        let own = format!("/v1/pbxs/{}", office.pbx);
        assert_eq!(office.call("GET", &own, &token, &[], None).await.status, 200);
        assert_eq!(office.call("GET", &format!("/v1/pbxs/{other}"), &token, &[], None).await.status, 404);
        let edit = json!({"name": "Mine"});
        assert_eq!(office.call("PATCH", &own, &token, &[], Some(&edit)).await.problem(), (403, "forbidden"));
    }

    #[tokio::test]
    async fn feeds_show_how_they_are_and_admins_hear_of_it() {
        let office = Office::open().await;
        let path = format!("/v1/pbxs/{}", office.pbx);
        assert_eq!(office.get(&path).await.json["feeds"], json!([]));
        let mut events = office.stream("/v1/events", &office.admin, &[]).await;
        events.next().await.unwrap();
        let feed = office.registry.feeds.open(office.pbx, "office-ami", FeedKind::Asterisk, office.clock.now());
        feed.up(office.clock.now());
        feed.event(office.clock.now());
        office.registry.look_at_feeds(office.clock.now());
        let (_, kind, data) = events.next().await.unwrap();
        assert_eq!(
            (&*kind, &data["feed"]["name"], &data["pbx"]),
            ("feed.up", &json!("office-ami"), &json!(office.pbx))
        );
        office.clock.advance(std::time::Duration::from_secs(1));
        let now = office.clock.now();
        feed.failed(now, "the PBX refuses this user or password", crate::model::UnixMillis(now.unix.0 + 30_000));
        office.registry.look_at_feeds(now);
        assert_eq!(events.next().await.unwrap().1, "feed.down");
        let shown = &office.get(&path).await.json["feeds"][0];
        assert_eq!(
            (&shown["state"], &shown["since"], &shown["kind"]),
            (&json!("waiting"), &json!(now.unix), &json!("asterisk"))
        );
        assert_eq!((&shown["retry_at"], &shown["events_per_second"]), (&json!(now.unix.0 + 30_000), &json!(1)));
        assert_eq!(shown["last_error"], "the PBX refuses this user or password");
        assert_eq!(office.get("/v1/pbxs").await.json["items"][0]["feeds"][0]["name"], "office-ami");
    }
}
