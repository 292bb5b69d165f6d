//! What a device is bound to, what became of it, and whose it was when.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Admin;
use super::devices;
use super::problem::Result;
use super::query::{Cursor, Ids, Listed, Moment, Page, Paging, Params};
use super::responses::{Listing, Reading};
use super::state::AppState;
use super::users;
use crate::model::{
    AccountId, Binding, BindingSource, DeviceId, Link, LinkId, Now, PbxId, Transition, Transport, UnixMillis, UserId,
};
use crate::store::{HistoryPage, LinksOf};
use crate::switchboard::View as _;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(list_bindings))
        .routes(routes!(list_transitions))
        .routes(routes!(list_device_links))
        .routes(routes!(list_user_links))
        .routes(routes!(list_holders))
}

/// One contact of a device.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[schema(as = Binding)]
pub struct BindingAnswer {
    /// The contact URI as the phone sent it.
    #[schema(value_type = String)]
    contact: Box<str>,
    /// When it ends.
    expires_at: UnixMillis,
    /// A passive binding past its end, in grace.
    stale: bool,
    /// Preference, 0 to 1.
    q: f32,
    /// How it was heard from.
    transport: Transport,
    /// Who vouches for it.
    source: BindingSource,
    /// The address the REGISTER came from.
    #[schema(value_type = Option<String>)]
    received: Option<SocketAddr>,
    /// User agent.
    #[schema(value_type = Option<String>)]
    user_agent: Option<Arc<str>>,
    /// `Call-ID` of the REGISTER that set it.
    #[schema(value_type = String)]
    call_id: Box<str>,
    /// `CSeq` number of the REGISTER that set it.
    cseq: u32,
    /// Path (RFC 3327).
    #[schema(value_type = Option<String>)]
    path: Option<Box<str>>,
    /// Instance id (RFC 5626).
    #[schema(value_type = Option<String>)]
    instance: Option<Box<str>>,
    /// When it was last refreshed.
    refreshed_at: UnixMillis,
}

/// A period in which a device was a user's.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Holding {
    /// The link.
    id: LinkId,
    /// The account of both.
    account: AccountId,
    /// The device.
    device: DeviceId,
    /// The user.
    user: UserId,
    /// Their name; none when they have been deleted.
    user_name: Option<String>,
    /// When it began.
    began_at: UnixMillis,
    /// When it ended; none while it lasts.
    ended_at: Option<UnixMillis>,
}

/// Whose it was, when.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct DeviceLinkQuery {
    /// Only who held it at this moment: milliseconds since 1970, or RFC 3339.
    #[param(value_type = Option<String>)]
    at: Option<Moment>,
}

/// Who held an extension, when.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct HolderQuery {
    /// The extension, as its devices have it now; a deleted device is found by the name it registered with.
    extension: String,
    /// At this moment (milliseconds since 1970, or RFC 3339); by default now.
    #[param(value_type = Option<String>)]
    at: Option<Moment>,
    /// On this PBX only.
    pbx: Option<PbxId>,
    /// Of this account; by default the token's own.
    account: Option<AccountId>,
}

/// List a device's bindings
///
/// Where it can be reached, stale ones too; all on one page.
#[utoipa::path(get, path = "/v1/devices/{id}/bindings", tag = "devices", params(("id" = DeviceId, Path)),
    responses((status = 200, description = "The bindings", body = Page<BindingAnswer>), Reading))]
async fn list_bindings(
    State(state): State<AppState>,
    admin: Admin,
    Ids(id): Ids<DeviceId>,
) -> Result<Json<Page<BindingAnswer>>> {
    let view = devices::seen(&state, admin, id)?;
    state.stored(view.awaits).await?;
    let now = state.clock.now();
    let items = state.registry.bindings(id).into_iter().map(|binding| BindingAnswer::of(binding, now)).collect();
    Ok(Json(Page { items, next: None }))
}

/// List a device's history
///
/// When it came up, went down, or changed its address or user agent, newest first. Refreshes are not history.
#[utoipa::path(get, path = "/v1/devices/{id}/history", tag = "devices", params(("id" = DeviceId, Path), Paging),
    responses((status = 200, description = "A page of transitions", body = Page<Transition>), Listing))]
async fn list_transitions(
    State(state): State<AppState>,
    admin: Admin,
    Ids(id): Ids<DeviceId>,
    Params(paging): Params<Paging>,
) -> Result<Json<Page<Transition>>> {
    devices::seen(&state, admin, id)?;
    let after = paging.after(TRANSITIONS)?;
    let page = state.registry.transitions(id, after, paging.limit.as_u32()).await?;
    Ok(Json(Page { items: page.items, next: page.next.map(|next| Cursor::write(TRANSITIONS, &next)) }))
}

/// List whose a device was
///
/// Its links, ended ones too, newest first; with `at`, those that lasted at that moment. A deleted device's links can
/// still be read.
#[utoipa::path(get, path = "/v1/devices/{id}/links", tag = "links", params(("id" = DeviceId, Path), DeviceLinkQuery, Paging),
    responses((status = 200, description = "A page of links", body = Page<Holding>), Listing))]
async fn list_device_links(
    State(state): State<AppState>,
    admin: Admin,
    Ids(id): Ids<DeviceId>,
    Listed(query, paging): Listed<DeviceLinkQuery>,
) -> Result<Json<Page<Holding>>> {
    let after = paging.after(LINKS)?;
    state.stored(state.registry.latest()).await?;
    let page = match query.at {
        Some(Moment(at)) => HistoryPage { items: state.registry.holders_at(id, at).await?, next: None },
        None => state.registry.links_history(LinksOf::Device(id), after, paging.limit.as_u32()).await?,
    };
    let page = visible(&state, admin, page);
    if page.items.is_empty() {
        devices::seen(&state, admin, id)?;
    }
    Ok(Json(page))
}

/// List which devices a user had
///
/// Their links, ended ones too, newest first.
#[utoipa::path(get, path = "/v1/users/{id}/links", tag = "links", params(("id" = UserId, Path), Paging),
    responses((status = 200, description = "A page of links", body = Page<Holding>), Listing))]
async fn list_user_links(
    State(state): State<AppState>,
    admin: Admin,
    Ids(id): Ids<UserId>,
    Params(paging): Params<Paging>,
) -> Result<Json<Page<Holding>>> {
    let after = paging.after(LINKS)?;
    state.stored(state.registry.latest()).await?;
    let page = state.registry.links_history(LinksOf::User(id), after, paging.limit.as_u32()).await?;
    let page = visible(&state, admin, page);
    if page.items.is_empty() {
        users::seen(&state, admin, id)?;
    }
    Ok(Json(page))
}

/// Find who held an extension
///
/// "Who held extension 204 at 10:31?" The links that lasted at that moment, of every device of the account with that
/// extension; all on one page.
#[utoipa::path(get, path = "/v1/links", tag = "links", params(HolderQuery),
    responses((status = 200, description = "The links", body = Page<Holding>), Listing))]
async fn list_holders(
    State(state): State<AppState>,
    admin: Admin,
    Params(query): Params<HolderQuery>,
) -> Result<Json<Page<Holding>>> {
    let account = admin.account(&state, query.account)?;
    let at = query.at.map_or_else(|| state.clock.now().unix, |Moment(at)| at);
    state.stored(state.registry.latest()).await?;
    let mut items = Vec::new();
    for device in devices_of(&state, account, &query) {
        items.extend(state.registry.holders_at(device, at).await?);
    }
    items.retain(|link| link.account == account);
    Ok(Json(visible(&state, admin, HistoryPage { items, next: None })))
}

/// Devices that have the extension now, and those that registered with it as their name and are gone.
fn devices_of(state: &AppState, account: AccountId, query: &HolderQuery) -> Vec<DeviceId> {
    let registry = &state.registry;
    let mut devices = Vec::new();
    // A PBX of the account above may serve this one as well.
    let mut owner = Some(account);
    while let Some(id) = owner {
        let page = registry.pbxs.page(id, None, PBXS_MAX, |pbx| query.pbx.is_none_or(|wanted| pbx.id == wanted));
        for pbx in page.items {
            let pbx = pbx.value.id;
            devices.extend(registry.devices_by_extension(pbx, &query.extension));
            let named = DeviceId::derive(account, pbx, &query.extension);
            devices.extend(Some(named).filter(|named| registry.device(*named).is_none()));
        }
        owner = registry.accounts.get(id).and_then(|account| account.value.parent);
    }
    devices
}

fn visible(state: &AppState, admin: Admin, page: HistoryPage<Link>) -> Page<Holding> {
    let links = page.items.into_iter().filter(|link| admin.0.reaches(state, link.account));
    let items = links.map(|link| Holding {
        user_name: state.registry.users.get(link.user).map(|user| user.value.name.clone()),
        id: link.id,
        account: link.account,
        device: link.device,
        user: link.user,
        began_at: link.began_at,
        ended_at: link.ended_at,
    });
    Page { items: items.collect(), next: page.next.map(|next| Cursor::write(LINKS, &next)) }
}

impl BindingAnswer {
    fn of(binding: Binding, now: Now) -> Self {
        Self {
            contact: binding.contact,
            expires_at: now.to_unix(binding.expires_at),
            stale: binding.expires_at <= now.tick,
            q: f32::from(binding.q) / 1000.0,
            transport: binding.transport,
            source: binding.source,
            received: binding.received,
            user_agent: binding.user_agent,
            call_id: binding.call_id,
            cseq: binding.cseq,
            path: binding.path,
            instance: binding.instance,
            refreshed_at: binding.refreshed_at,
        }
    }
}

const TRANSITIONS: &str = "transitions";
const LINKS: &str = "links";

/// PBXs of one account that are looked at for an extension.
const PBXS_MAX: usize = 1_000;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use crate::http::testing::Office;

    #[tokio::test]
    async fn bindings_show_where_a_device_can_be_reached() {
        let office = Office::open().await;
        let device = office.phone("204").await;
        let bindings = office.get(&format!("/v1/devices/{device}/bindings")).await;
        assert_eq!(bindings.items("contact"), [json!("sip:204@192.0.2.7:5060")]);
        assert_eq!(bindings.items("received"), [json!("192.0.2.7:5060")]);
        assert_eq!(bindings.items("source"), [json!("registrar")]);
        assert_eq!(bindings.items("expires_at"), [json!(office.clock.now().unix.0 + 3_600_000)]);
    }

    #[tokio::test]
    async fn history_has_transitions_newest_first_and_no_refreshes() {
        let office = Office::open().await;
        let device = office.phone("204").await;
        office.phone("204").await;
        office.clock.advance(Duration::from_hours(2));
        while office.registry.expire(office.clock.now()) {}
        office.phone("204").await;
        let path = format!("/v1/devices/{device}/history");
        assert_eq!(office.get(&path).await.items("kind"), [json!("up"), json!("down"), json!("up")]);
        let first = office.get(&format!("{path}?limit=2")).await;
        let next = first.json["next"].as_str().unwrap();
        let last = office.get(&format!("{path}?limit=2&after={next}")).await;
        assert_eq!((last.items("kind"), last.items("cause")), (vec![json!("up")], vec![json!("registered")]));
        assert_eq!(
            office.get(&format!("/v1/devices/{device}/links?after={next}")).await.problem(),
            (400, "bad-request")
        );
    }

    #[tokio::test]
    async fn x5_who_held_extension_204_at_1031() {
        let office = Office::open().await;
        let device = office.phone("204").await;
        let ((ann, _), (bob, _)) = (office.user("ann").await, office.user("bob").await);
        let link = async |method: &str, user| {
            let path = format!("/v1/users/{user}/devices/{device}");
            assert!(office.call(method, &path, &office.admin, &[], None).await.status < 300);
        };
        let before = office.clock.now().unix.0 - 1;
        link("PUT", ann).await;
        office.clock.advance(Duration::from_mins(31));
        let at_1031 = office.clock.now().unix.0;
        office.clock.advance(Duration::from_mins(9));
        link("DELETE", ann).await;
        link("PUT", bob).await;
        let now = office.clock.now().unix.0;
        for (at, holder) in [(before, None), (at_1031, Some(ann)), (now, Some(bob))] {
            let holder: Vec<_> = holder.iter().map(|user| json!(user)).collect();
            let of_device = office.get(&format!("/v1/devices/{device}/links?at={at}")).await;
            assert_eq!(of_device.items("user"), holder, "{at}");
            let of_extension = office.get(&format!("/v1/links?extension=204&at={at}")).await;
            assert_eq!(of_extension.items("user"), holder, "{at}");
        }
        let written = jiff::Timestamp::from_millisecond(at_1031).unwrap();
        let held = office.get(&format!("/v1/links?extension=204&at={written}")).await;
        assert_eq!(held.items("user_name"), [json!("ann")]);
        assert_eq!(office.get("/v1/links?extension=204").await.items("user"), [json!(bob)]);
        let history = office.get(&format!("/v1/devices/{device}/links")).await;
        assert_eq!(history.items("user"), [json!(bob), json!(ann)]);
        assert_eq!(office.get(&format!("/v1/users/{ann}/links")).await.items("device"), [json!(device)]);
        // Neither the device's nor the user's end rewrites the past.
        assert_eq!(office.delete(&format!("/v1/devices/{device}")).await.status, 204);
        assert_eq!(office.delete(&format!("/v1/users/{ann}")).await.status, 204);
        let held = office.get(&format!("/v1/links?extension=204&at={at_1031}")).await;
        assert_eq!((held.items("user"), held.items("user_name")), (vec![json!(ann)], vec![json!(null)]));
        let held = office.get(&format!("/v1/devices/{device}/links?at={at_1031}")).await;
        assert_eq!(held.items("user"), [json!(ann)]);
    }

    #[tokio::test]
    async fn the_past_of_another_account_is_not_there() {
        let office = Office::open().await;
        let device = office.phone("204").await;
        let (user, _) = office.user("ann").await;
        assert_eq!(office.put(&format!("/v1/users/{user}/devices/{device}")).await.status, 201);
        let (_, stranger) = office.stranger();
        for path in [
            format!("/v1/devices/{device}/bindings"),
            format!("/v1/devices/{device}/history"),
            format!("/v1/devices/{device}/links"),
            format!("/v1/devices/{device}/links?at={}", office.clock.now().unix.0),
            format!("/v1/users/{user}/links"),
        ] {
            assert_eq!(office.call("GET", &path, &stranger, &[], None).await.problem(), (404, "not-found"), "{path}");
            assert_eq!(office.get(&path).await.status, 200, "{path}");
        }
        let held = office.call("GET", "/v1/links?extension=204", &stranger, &[], None).await;
        assert!(held.items("user").is_empty());
    }
}
