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
use super::problem::{Problem, Result};
use super::query::{Cursor, Ids, Limit, Page, Params};
use super::responses::{Creating, Editing, Listing, Reading, Removing};
use super::state::AppState;
use super::values;
use crate::model::{AccountId, Pbx, PbxId, QueueRule, SiteId};
use crate::store::Stored;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_pbxs, create_pbx)).routes(routes!(read_pbx, edit_pbx, delete_pbx))
}

/// What can be set of a PBX.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PbxEdit {
    /// The account it belongs to; by default the token's own. It can't be changed later.
    #[serde(default)]
    account: Option<AccountId>,
    /// The site its calls are joined in.
    site: SiteId,
    /// What people call it, unique within the account.
    name: String,
    /// The canonical domain its devices' addresses-of-record are shown under.
    domain: String,
    /// Other names of that domain.
    #[serde(default)]
    aliases: Vec<String>,
    /// Whether a host nobody claims is an alias of `domain`.
    #[serde(default = "yes")]
    any_domain: bool,
    /// Addresses or networks its SIP comes from.
    #[serde(default)]
    networks: Vec<String>,
    /// Longest a passive binding is believed without a refresh, in seconds, 60 to 604 800.
    #[serde(default = "passive_expires_max_s")]
    passive_expires_max_s: u32,
    /// How long a passive binding past its time is `stale` before it is gone, in seconds, at most 86 400.
    #[serde(default = "passive_grace_s")]
    passive_grace_s: u32,
    /// How SIP on this PBX shows that a call is a queue call; the first rule that matches wins.
    #[serde(default)]
    queue_rules: Vec<QueueRule>,
    /// Whether changes made here may be sent to it.
    #[serde(default)]
    control: bool,
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
    /// `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<Cursor>,
    /// Items a page, 1 to 500.
    #[serde(default)]
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500, default = 50)]
    limit: Limit,
}

/// List PBXs
///
/// An account's phone systems, by name.
#[utoipa::path(get, path = "/v1/pbxs", tag = "pbxs", params(PbxFilter),
    responses((status = 200, description = "A page of PBXs", body = Page<Pbx>), Listing))]
async fn list_pbxs(
    State(state): State<AppState>,
    admin: Admin,
    Params(filter): Params<PbxFilter>,
) -> Result<Json<Page<Pbx>>> {
    let account = admin.account(&state, filter.account)?;
    let after = Cursor::read(filter.after.as_ref(), LIST)?;
    let wanted = |pbx: &Pbx| filter.site.is_none_or(|site| pbx.site == site);
    let page = state.registry.pbxs.page(account, after, filter.limit.0, wanted);
    page_of(&state, LIST, page, Pbx::clone).await
}

/// Create a PBX
///
/// Queue rules name queues of this PBX, so they are set once it and its queues exist.
#[utoipa::path(post, path = "/v1/pbxs", tag = "pbxs", request_body = PbxEdit,
    responses((status = 201, description = "The new PBX", body = Pbx,
        headers(("ETag" = String), ("Location" = String))), Creating))]
async fn create_pbx(State(state): State<AppState>, admin: Admin, Body(edit): Body<PbxEdit>) -> Result<Tagged<Pbx>> {
    let account = admin.account(&state, edit.account)?;
    let edit = edit.checked(&state, account)?;
    let pbx = edit.into_pbx(PbxId(state.clock.uuid()), account, state.clock.now().unix);
    let stored = state.registry.create_pbx(pbx)?;
    let location = format!("/v1/pbxs/{}", stored.value.id);
    Tagged::created(&state, stored.value.clone(), stored.seq, location).await
}

/// Read a PBX
#[utoipa::path(get, path = "/v1/pbxs/{id}", tag = "pbxs", params(("id" = PbxId, Path)),
    responses((status = 200, description = "The PBX", body = Pbx, headers(("ETag" = String))), Reading))]
async fn read_pbx(State(state): State<AppState>, caller: AdminOrPbx, Ids(id): Ids<PbxId>) -> Result<Tagged<Pbx>> {
    let stored = state.registry.pbxs.get(id).filter(|pbx| caller.reaches(&state, pbx.value.account, id));
    let stored = stored.ok_or_else(|| Problem::not_found("PBX"))?;
    Tagged::ok(&state, stored.value.clone(), stored.seq).await
}

/// Edit a PBX
///
/// A merge patch (RFC 7396). Lists are replaced as a whole.
#[utoipa::path(patch, path = "/v1/pbxs/{id}", tag = "pbxs",
    params(("id" = PbxId, Path), ("If-Match" = Option<String>, Header)),
    request_body(content = PbxEdit, content_type = "application/merge-patch+json"),
    responses((status = 200, description = "The PBX as it is now", body = Pbx, headers(("ETag" = String))), Editing))]
async fn edit_pbx(
    State(state): State<AppState>,
    admin: Admin,
    Ids(id): Ids<PbxId>,
    versions: IfMatch,
    patch: MergePatch,
) -> Result<Tagged<Pbx>> {
    let current = seen(&state, admin, id)?;
    let stored = edited(
        |edit| state.registry.update_pbx(id, versions.expected(current.seq), edit),
        |pbx: &mut Pbx| {
            let before = PbxEdit::of(pbx);
            let edit = patch.applied_to(&before)?;
            if edit.account != before.account {
                return Err(Problem::invalid("/account", "a PBX can't move to another account"));
            }
            *pbx = edit.checked(&state, pbx.account)?.into_pbx(pbx.id, pbx.account, pbx.created_at);
            Ok(())
        },
    )?;
    Tagged::ok(&state, stored.value.clone(), stored.seq).await
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

fn seen(state: &AppState, admin: Admin, id: PbxId) -> Result<Arc<Stored<Pbx>>> {
    let stored = state.registry.pbxs.get(id).filter(|pbx| admin.0.reaches(state, pbx.value.account));
    stored.ok_or_else(|| Problem::not_found("PBX"))
}

impl PbxEdit {
    fn of(pbx: &Pbx) -> Self {
        let pbx = pbx.clone();
        Self {
            account: Some(pbx.account),
            site: pbx.site,
            name: pbx.name,
            domain: pbx.domain,
            aliases: pbx.aliases,
            any_domain: pbx.any_domain,
            networks: pbx.networks,
            passive_expires_max_s: pbx.passive_expires_max_s,
            passive_grace_s: pbx.passive_grace_s,
            queue_rules: pbx.queue_rules,
            control: pbx.control,
        }
    }

    fn into_pbx(self, id: PbxId, account: AccountId, created_at: crate::model::UnixMillis) -> Pbx {
        Pbx {
            id,
            account,
            site: self.site,
            name: self.name,
            domain: self.domain,
            aliases: self.aliases,
            any_domain: self.any_domain,
            networks: self.networks,
            passive_expires_max_s: self.passive_expires_max_s,
            passive_grace_s: self.passive_grace_s,
            queue_rules: self.queue_rules,
            control: self.control,
            created_at,
        }
    }

    fn checked(self, state: &AppState, account: AccountId) -> Result<Self> {
        if state.registry.sites.get(self.site).is_none_or(|site| site.value.account != account) {
            return Err(Problem::invalid("/site", "the account has no such site"));
        }
        values::within("/passive_expires_max_s", self.passive_expires_max_s, 60..=604_800)?;
        values::within("/passive_grace_s", self.passive_grace_s, 0..=86_400)?;
        values::list("/queue_rules", &self.queue_rules)?;
        for (index, rule) in self.queue_rules.iter().enumerate() {
            check_rule(&format!("/queue_rules/{index}"), rule)?;
        }
        let name = values::name("/name", &self.name)?;
        let domain = values::domain("/domain", &self.domain)?;
        let aliases = values::domains("/aliases", &self.aliases)?;
        let networks = values::networks("/networks", &self.networks)?;
        Ok(Self { name, domain, aliases, networks, ..self })
    }
}

/// Whether its queues are there the registry checks.
fn check_rule(pointer: &str, rule: &QueueRule) -> Result<()> {
    match rule {
        QueueRule::Dialled { number, .. } => {
            values::dialled(&format!("{pointer}/number"), Some(number))?
                .ok_or_else(|| Problem::invalid(format!("{pointer}/number"), "it must not be empty"))?;
        }
        QueueRule::Header { name, value, .. } => {
            // `token` of RFC 3261 §25.1.
            let token = |b: u8| b.is_ascii_alphanumeric() || b"-.!%*_+`'~".contains(&b);
            if name.is_empty() || name.len() > HEADER_NAME_MAX || !name.bytes().all(token) {
                return Err(Problem::invalid(format!("{pointer}/name"), "that is not a header name"));
            }
            values::remark(&format!("{pointer}/value"), value.as_deref())?;
        }
        // Its outer spaces are part of it: `SUPPORT: ` is not `SUPPORT:`.
        QueueRule::NamePrefix { prefix, .. } => {
            values::name(&format!("{pointer}/prefix"), prefix)?;
        }
    }
    Ok(())
}

const fn yes() -> bool {
    true
}

const fn passive_expires_max_s() -> u32 {
    7_200
}

const fn passive_grace_s() -> u32 {
    300
}

const LIST: &str = "pbxs";
const HEADER_NAME_MAX: usize = 64;
