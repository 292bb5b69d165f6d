//! Sites: the PBXs a call may cross.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{Tagged, edited, page_of, removed};
use super::auth::Admin;
use super::body::{Body, MergePatch};
use super::etag::IfMatch;
use super::problem::{Problem, Result};
use super::query::{Cursor, Ids, Limit, Page, Params};
use super::responses::{Creating, Editing, Listing, Reading, Removing};
use super::state::AppState;
use super::values;
use crate::model::{AccountId, Site, SiteId};
use crate::store::Stored;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_sites, create_site)).routes(routes!(read_site, edit_site, delete_site))
}

/// What can be set of a site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SiteEdit {
    /// The account it belongs to; by default the token's own. It can't be changed later.
    #[serde(default)]
    account: Option<AccountId>,
    /// What people call it, unique within the account.
    name: String,
}

/// Which sites to list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct SiteFilter {
    /// Of this account; by default the token's own.
    account: Option<AccountId>,
    /// `next` of the page before.
    #[param(value_type = Option<String>)]
    after: Option<Cursor>,
    /// Items a page, 1 to 500.
    #[serde(default)]
    #[param(value_type = Option<u16>, minimum = 1, maximum = 500, default = 50)]
    limit: Limit,
}

/// List sites
///
/// An account's sites, by name.
#[utoipa::path(get, path = "/v1/sites", tag = "sites", params(SiteFilter),
    responses((status = 200, description = "A page of sites", body = Page<Site>), Listing))]
async fn list_sites(
    State(state): State<AppState>,
    admin: Admin,
    Params(filter): Params<SiteFilter>,
) -> Result<Json<Page<Site>>> {
    let account = admin.account(&state, filter.account)?;
    let after = Cursor::read(filter.after.as_ref(), LIST)?;
    let page = state.registry.sites.page(account, after, filter.limit.0, |_| true);
    page_of(&state, LIST, page, Site::clone).await
}

/// Create a site
#[utoipa::path(post, path = "/v1/sites", tag = "sites", request_body = SiteEdit,
    responses((status = 201, description = "The new site", body = Site,
        headers(("ETag" = String), ("Location" = String))), Creating))]
async fn create_site(State(state): State<AppState>, admin: Admin, Body(edit): Body<SiteEdit>) -> Result<Tagged<Site>> {
    let account = admin.account(&state, edit.account)?;
    let site = Site {
        id: SiteId(state.clock.uuid()),
        account,
        name: values::name("/name", &edit.name)?,
        created_at: state.clock.now().unix,
    };
    let stored = state.registry.create_site(site)?;
    let location = format!("/v1/sites/{}", stored.value.id);
    Tagged::created(&state, stored.value.clone(), stored.seq, location).await
}

/// Read a site
#[utoipa::path(get, path = "/v1/sites/{id}", tag = "sites", params(("id" = SiteId, Path)),
    responses((status = 200, description = "The site", body = Site, headers(("ETag" = String))), Reading))]
async fn read_site(State(state): State<AppState>, admin: Admin, Ids(id): Ids<SiteId>) -> Result<Tagged<Site>> {
    let stored = seen(&state, admin, id)?;
    Tagged::ok(&state, stored.value.clone(), stored.seq).await
}

/// Edit a site
///
/// A merge patch (RFC 7396).
#[utoipa::path(patch, path = "/v1/sites/{id}", tag = "sites",
    params(("id" = SiteId, Path), ("If-Match" = Option<String>, Header)),
    request_body(content = SiteEdit, content_type = "application/merge-patch+json"),
    responses((status = 200, description = "The site as it is now", body = Site, headers(("ETag" = String))), Editing))]
async fn edit_site(
    State(state): State<AppState>,
    admin: Admin,
    Ids(id): Ids<SiteId>,
    versions: IfMatch,
    patch: MergePatch,
) -> Result<Tagged<Site>> {
    let current = seen(&state, admin, id)?;
    let stored = edited(
        |edit| state.registry.update_site(id, versions.expected(current.seq), edit),
        |site: &mut Site| {
            let before = SiteEdit { account: Some(site.account), name: site.name.clone() };
            let edit = patch.applied_to(&before)?;
            if edit.account != before.account {
                return Err(Problem::invalid("/account", "a site can't move to another account"));
            }
            site.name = values::name("/name", &edit.name)?;
            Ok(())
        },
    )?;
    Tagged::ok(&state, stored.value.clone(), stored.seq).await
}

/// Delete a site
///
/// It must have no PBXs.
#[utoipa::path(delete, path = "/v1/sites/{id}", tag = "sites",
    params(("id" = SiteId, Path), ("If-Match" = Option<String>, Header)),
    responses((status = 204, description = "It is gone"), Removing))]
async fn delete_site(
    State(state): State<AppState>,
    admin: Admin,
    Ids(id): Ids<SiteId>,
    versions: IfMatch,
) -> Result<StatusCode> {
    let current = seen(&state, admin, id)?;
    removed(&state, state.registry.delete_site(id, versions.expected(current.seq))).await
}

fn seen(state: &AppState, admin: Admin, id: SiteId) -> Result<std::sync::Arc<Stored<Site>>> {
    let stored = state.registry.sites.get(id).filter(|site| admin.0.reaches(state, site.value.account));
    stored.ok_or_else(|| Problem::not_found("site"))
}

const LIST: &str = "sites";
