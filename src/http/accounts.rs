//! Accounts: the token's own and those below it.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::answer::{Tagged, edited, page_of};
use super::auth::Admin;
use super::body::{Body, MergePatch};
use super::etag::IfMatch;
use super::problem::{Problem, Result};
use super::query::{Ids, Listed, Page, Paging};
use super::responses::{Creating, Editing, Listing, Reading};
use super::state::AppState;
use super::values;
use crate::model::{Account, AccountId, AccountSettings, NumberPlan, RegistrationSettings};
use crate::sip::{Scheme, Uri};

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(list_accounts, create_account)).routes(routes!(read_account, edit_account))
}

/// What can be set of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AccountEdit {
    /// The account above it; by default the token's own. It can't be changed later.
    #[serde(default)]
    parent: Option<AccountId>,
    /// What people call it.
    name: String,
    /// SIP domains that belong to it on a PBX that serves several accounts; each belongs to one account only.
    #[serde(default)]
    domains: Vec<String>,
    /// How its numbers read.
    #[serde(default)]
    number_plan: NumberPlan,
    /// What pops when.
    #[serde(default)]
    settings: AccountSettings,
}

/// Which accounts to list.
#[derive(Clone, Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct AccountFilter {
    /// List this account and those right below it; by default the token's own.
    parent: Option<AccountId>,
}

/// List accounts
///
/// The token's own account, or `parent`, and those right below it, by name.
#[utoipa::path(get, path = "/v1/accounts", tag = "accounts", params(AccountFilter, Paging),
    responses((status = 200, description = "A page of accounts", body = Page<Account>), Listing))]
async fn list_accounts(
    State(state): State<AppState>,
    admin: Admin,
    Listed(filter, paging): Listed<AccountFilter>,
) -> Result<Json<Page<Account>>> {
    let parent = admin.account(&state, filter.parent)?;
    let after = paging.after(LIST)?;
    // The listing of an account below must not name the accounts above it.
    let page = state.registry.accounts.page(parent, after, paging.limit.0, |_| true);
    page_of(&state, LIST, page, Account::clone).await
}

/// Create an account below
#[utoipa::path(post, path = "/v1/accounts", tag = "accounts", request_body = AccountEdit,
    responses((status = 201, description = "The new account", body = Account,
        headers(("ETag" = String), ("Location" = String))), Creating))]
async fn create_account(
    State(state): State<AppState>,
    admin: Admin,
    Body(edit): Body<AccountEdit>,
) -> Result<Tagged<Account>> {
    let parent = admin.account(&state, edit.parent)?;
    let edit = edit.checked()?;
    let account = Account {
        id: AccountId(state.clock.uuid()),
        parent: Some(parent),
        name: edit.name,
        domains: edit.domains,
        number_plan: edit.number_plan,
        settings: edit.settings,
        created_at: state.clock.now().unix,
    };
    let stored = state.registry.create_account(account)?;
    let location = format!("/v1/accounts/{}", stored.value.id);
    Tagged::created(&state, stored.value.clone(), stored.seq, location).await
}

/// Read an account
#[utoipa::path(get, path = "/v1/accounts/{id}", tag = "accounts", params(("id" = AccountId, Path)),
    responses((status = 200, description = "The account", body = Account, headers(("ETag" = String))), Reading))]
async fn read_account(State(state): State<AppState>, admin: Admin, Ids(id): Ids<AccountId>) -> Result<Tagged<Account>> {
    admin.account(&state, Some(id))?;
    let stored = state.registry.accounts.get(id).ok_or_else(|| Problem::not_found("account"))?;
    Tagged::ok(&state, stored.value.clone(), stored.seq).await
}

/// Edit an account
///
/// A merge patch (RFC 7396): what is absent stays, `null` sets a member back to its default.
#[utoipa::path(patch, path = "/v1/accounts/{id}", tag = "accounts",
    params(("id" = AccountId, Path), ("If-Match" = Option<String>, Header)),
    request_body(content = AccountEdit, content_type = "application/merge-patch+json"),
    responses((status = 200, description = "The account as it is now", body = Account, headers(("ETag" = String))), Editing))]
async fn edit_account(
    State(state): State<AppState>,
    admin: Admin,
    Ids(id): Ids<AccountId>,
    versions: IfMatch,
    patch: MergePatch,
) -> Result<Tagged<Account>> {
    admin.account(&state, Some(id))?;
    let current = state.registry.accounts.get(id).ok_or_else(|| Problem::not_found("account"))?;
    let stored = edited(
        |edit| state.registry.update_account(id, versions.expected(current.seq), edit),
        |account: &mut Account| {
            let before = AccountEdit::of(account);
            let edit = patch.applied_to(&before)?.checked()?;
            if edit.parent != before.parent {
                return Err(Problem::invalid("/parent", "an account can't move"));
            }
            account.name = edit.name;
            account.domains = edit.domains;
            account.number_plan = edit.number_plan;
            account.settings = edit.settings;
            Ok(())
        },
    )?;
    Tagged::ok(&state, stored.value.clone(), stored.seq).await
}

impl AccountEdit {
    fn of(account: &Account) -> Self {
        let Account { parent, name, domains, number_plan, settings, .. } = account.clone();
        Self { parent, name, domains, number_plan, settings }
    }

    fn checked(self) -> Result<Self> {
        let plan = &self.number_plan;
        values::list("/number_plan/internal_lengths", &plan.internal_lengths)?;
        for (index, length) in plan.internal_lengths.iter().enumerate() {
            values::within(&format!("/number_plan/internal_lengths/{index}"), u32::from(*length), 1..=15)?;
        }
        let country = &plan.default_country;
        if country.len() != 2 || !country.bytes().all(|b| b.is_ascii_uppercase()) {
            let detail = "a country is two capital letters (ISO 3166-1), such as US";
            return Err(Problem::invalid("/number_plan/default_country", detail));
        }
        let lists = [
            ("dids", &plan.dids),
            ("feature_code_prefixes", &plan.feature_code_prefixes),
            ("voicemail", &plan.voicemail),
            ("emergency", &plan.emergency),
        ];
        for (list, texts) in lists {
            values::list(&format!("/number_plan/{list}"), texts)?;
            for (index, text) in texts.iter().enumerate() {
                values::name(&format!("/number_plan/{list}/{index}"), text)?;
            }
        }
        values::dialled("/number_plan/outside_prefix", plan.outside_prefix.as_deref())?;
        let name = values::name("/name", &self.name)?;
        let domains = values::domains("/domains", &self.domains)?;
        check_registration(&self.settings.registration)?;
        Ok(Self { name, domains, ..self })
    }
}

fn check_registration(settings: &RegistrationSettings) -> Result<()> {
    const AT: &str = "/settings/registration";
    let numbers = [
        ("expires_min_s", settings.expires_min_s, 1..=3_600),
        ("expires_default_s", settings.expires_default_s, 1..=MONTH_S),
        ("expires_max_s", settings.expires_max_s, 1..=MONTH_S),
        ("expires_deviation_percent", settings.expires_deviation_percent.map(u32::from), 0..=50),
        ("contacts_max", settings.contacts_max, 1..=100),
        ("keepalive_s", settings.keepalive_s, 0..=3_600),
        ("keepalive_misses", settings.keepalive_misses, 0..=100),
    ];
    for (member, value, range) in numbers {
        value.map_or(Ok(()), |value| values::within(&format!("{AT}/{member}"), value, range))?;
    }
    values::list(&format!("{AT}/third_parties"), &settings.third_parties)?;
    for (index, user) in settings.third_parties.iter().enumerate() {
        values::name(&format!("{AT}/third_parties/{index}"), user)?;
    }
    values::list(&format!("{AT}/service_route"), &settings.service_route)?;
    for (index, route) in settings.service_route.iter().enumerate() {
        let is_route = Uri::parse(route).is_ok_and(|uri| matches!(uri.scheme, Scheme::Sip | Scheme::Sips));
        if !is_route {
            return Err(Problem::invalid(format!("{AT}/service_route/{index}"), "that is not a SIP URI"));
        }
    }
    Ok(())
}

const MONTH_S: u32 = 30 * 86_400;

const LIST: &str = "accounts";

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::http::testing::Office;

    #[tokio::test]
    async fn an_agency_creates_accounts_below_it_and_sees_them() {
        let office = Office::open().await;
        let created = office.post("/v1/accounts", &json!({"name": "Branch", "domains": ["Branch.Example."]})).await;
        assert_eq!(created.status, 201, "{created:?}");
        assert_eq!(created.json["parent"], json!(office.account));
        assert_eq!(created.json["domains"], json!(["branch.example"]));
        let location = created.headers["location"].to_str().unwrap();
        let read = office.get(location).await;
        assert_eq!((&read.json, read.etag()), (&created.json, created.etag()));
        let ids = office.get("/v1/accounts").await.items("id");
        assert!(ids.contains(&json!(office.account)) && ids.contains(&created.json["id"]), "{ids:?}");
        let below = json!({"name": "Kiosk", "parent": created.json["id"]});
        let below = office.post("/v1/accounts", &below).await;
        assert_eq!(below.status, 201);
        let of_branch = office.get(&format!("/v1/accounts?parent={}", created.id())).await.items("name");
        assert_eq!(of_branch, [json!("Branch"), json!("Kiosk")]);
    }

    #[tokio::test]
    async fn an_account_never_sees_one_beside_or_above_it() {
        let office = Office::open().await;
        let (other, stranger) = office.stranger();
        for path in [format!("/v1/accounts/{}", office.account), format!("/v1/accounts?parent={}", office.account)] {
            assert_eq!(office.call("GET", &path, &stranger, &[], None).await.problem(), (404, "not-found"));
        }
        let below = json!({"name": "Intruder", "parent": office.account});
        let refused = office.call("POST", "/v1/accounts", &stranger, &[], Some(&below)).await;
        assert_eq!(refused.problem(), (404, "not-found"));
        assert_eq!(office.get(&format!("/v1/accounts/{other}")).await.problem(), (404, "not-found"));
        let branch = office.post("/v1/accounts", &json!({"name": "Branch"})).await.id().parse().unwrap();
        let branch = office.token(branch, crate::model::Scope::Admin, None, None);
        let above = format!("/v1/accounts/{}", office.account);
        assert_eq!(office.call("GET", &above, &branch, &[], None).await.status, 404);
        let own = office.call("GET", "/v1/accounts", &branch, &[], None).await.items("name");
        assert_eq!(own, [json!("Branch")]);
    }

    #[tokio::test]
    async fn settings_are_patched_member_by_member_and_null_sets_one_back() {
        let office = Office::open().await;
        let path = format!("/v1/accounts/{}", office.account);
        let patch = json!({"settings": {"outbound": "never"}, "number_plan": {"internal_lengths": [3], "default_country": "DE"}});
        let patched = office.patch(&path, &patch).await.json;
        assert_eq!(patched["settings"]["outbound"], "never");
        assert_eq!(patched["settings"]["queue_notice"], "ring", "what the patch does not name stays");
        assert_eq!(patched["number_plan"]["internal_lengths"], json!([3]));
        let reset = office.patch(&path, &json!({"settings": {"outbound": null}, "number_plan": null})).await.json;
        assert_eq!(reset["settings"]["outbound"], "start");
        assert_eq!(reset["number_plan"]["default_country"], "US");
    }

    #[tokio::test]
    async fn bad_values_are_named_by_pointer() {
        let office = Office::open().await;
        let path = format!("/v1/accounts/{}", office.account);
        for (patch, status, pointer) in [
            (json!({"settings": {"outbound": "sometimes"}}), 400, "/settings/outbound"),
            (json!({"settings": {"colour": "red"}}), 400, "/settings/colour"),
            (json!({"number_plan": {"internal_lengths": [3, "4"]}}), 400, "/number_plan/internal_lengths/1"),
            (json!({"number_plan": {"internal_lengths": [99]}}), 422, "/number_plan/internal_lengths/0"),
            (json!({"number_plan": {"default_country": "usa"}}), 422, "/number_plan/default_country"),
            (json!({"domains": ["ok.example", "not a host"]}), 422, "/domains/1"),
            (json!({"name": ""}), 422, "/name"),
            (json!({"settings": {"registration": {"contacts_max": 0}}}), 422, "/settings/registration/contacts_max"),
            (json!({"settings": {"registration": {"keepalive_s": 9999}}}), 422, "/settings/registration/keepalive_s"),
            (json!({"settings": {"registration": {"overflow": "no"}}}), 400, "/settings/registration/overflow"),
            (
                json!({"settings": {"registration": {"service_route": ["edge"]}}}),
                422,
                "/settings/registration/service_route/0",
            ),
            (json!({"parent": office.account}), 422, "/parent"),
            (json!({"id": office.account}), 400, "/id"),
        ] {
            let refused = office.patch(&path, &patch).await;
            assert_eq!((refused.problem().0, refused.json["pointer"].as_str()), (status, Some(pointer)), "{patch}");
        }
    }

    #[tokio::test]
    async fn a_domain_belongs_to_one_account_only() {
        let office = Office::open().await;
        let body = json!({"name": "One", "domains": ["one.example"]});
        assert_eq!(office.post("/v1/accounts", &body).await.status, 201);
        let again = json!({"name": "Two", "domains": ["ONE.example"]});
        assert_eq!(office.post("/v1/accounts", &again).await.problem(), (409, "conflict"));
    }
}
