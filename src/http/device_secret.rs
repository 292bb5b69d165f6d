//! `/v1/devices/{id}/secret`: the password a phone registers with. Set or taken away, never read.

use std::fmt;

use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Admin;
use super::body::Body;
use super::devices::seen;
use super::problem::{Problem, Result};
use super::query::Ids;
use super::responses::{Editing, Removing};
use super::state::AppState;
use crate::model::{DeviceId, DeviceSecret};
use crate::sip::digest;

pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(set_secret, remove_secret))
}

/// A SIP password.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SecretNew {
    /// 1 to 128 characters, none of them a control character. The phone's authentication name is the user part of its
    /// address-of-record, its realm the `realm` of `[registrar]`.
    #[schema(write_only, example = "pX7-not-this-one")]
    password: String,
}

impl fmt::Debug for SecretNew {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretNew(…)")
    }
}

/// Set a device's password
///
/// From then on the phone must prove it whenever it registers, on every listener of mode registrar. Only hashes of it are kept
/// (one for each algorithm of RFC 8760), and nobody can read it again. Bindings that exist stay until their time is over.
#[utoipa::path(put, path = "/v1/devices/{id}/secret", tag = "devices", params(("id" = DeviceId, Path)),
    request_body = SecretNew, responses((status = 204, description = "It is set"), Editing))]
async fn set_secret(
    State(state): State<AppState>,
    admin: Admin,
    Ids(id): Ids<DeviceId>,
    Body(new): Body<SecretNew>,
) -> Result<StatusCode> {
    let view = seen(&state, admin, id)?;
    let length = new.password.chars().count();
    if !(1..=PASSWORD_LEN_MAX).contains(&length) || new.password.chars().any(char::is_control) {
        return Err(Problem::invalid(
            "/password",
            "it must have 1 to 128 characters, none of them a control character",
        ));
    }
    let ha1 = digest::ha1(&view.device.user, &state.realm, &new.password);
    let set_at = state.clock.now().unix;
    let secret = DeviceSecret { device: id, account: view.device.account, realm: state.realm.clone(), ha1, set_at };
    let seq = state.registry.set_secret(secret)?;
    state.stored(seq.max(view.awaits)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Take a device's password away
///
/// Where passwords are asked for it can no longer register; elsewhere it can without one.
#[utoipa::path(delete, path = "/v1/devices/{id}/secret", tag = "devices", params(("id" = DeviceId, Path)),
    responses((status = 204, description = "It is gone"), Removing))]
async fn remove_secret(State(state): State<AppState>, admin: Admin, Ids(id): Ids<DeviceId>) -> Result<StatusCode> {
    seen(&state, admin, id)?;
    let seq = state.registry.remove_secret(id)?;
    state.stored(seq).await?;
    Ok(StatusCode::NO_CONTENT)
}

const PASSWORD_LEN_MAX: usize = 128;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::http::testing::Office;
    use crate::sip::digest;

    #[tokio::test]
    async fn a_password_is_set_and_taken_away_and_never_shown() {
        let office = Office::open().await;
        let device = office.phone("204").await;
        let path = format!("/v1/devices/{device}");
        let secret = format!("{path}/secret");
        let put = async |body| office.call("PUT", &secret, &office.admin, &[], Some(&body)).await;
        assert_eq!(office.get(&path).await.json["secret_set_at"], json!(null));
        assert_eq!(put(json!({"password": "s3cret"})).await.status, 204);
        let ha1 = digest::ha1("204", "office.example", "s3cret");
        assert_eq!(office.registry.ha1(device, "office.example"), Some(ha1));
        assert_eq!(office.registry.ha1(device, "another.example"), None);
        let shown = office.get(&path).await.json;
        assert_eq!(shown["secret_set_at"], json!(office.clock.now().unix));
        assert!(!shown.to_string().contains("s3cret"), "{shown}");
        assert_eq!(office.get(&secret).await.problem(), (405, "method-not-allowed"));
        assert_eq!(office.delete(&secret).await.status, 204);
        assert_eq!(office.delete(&secret).await.problem(), (404, "not-found"));
        assert_eq!(office.registry.ha1(device, "office.example"), None);
    }

    #[tokio::test]
    async fn bad_passwords_are_named_and_strangers_have_no_say() {
        let office = Office::open().await;
        let path = format!("/v1/devices/{}/secret", office.phone("204").await);
        for (password, status) in [("", 422), ("a\u{7}", 422), (&"x".repeat(129), 422), (&"\u{fc}".repeat(128), 204)] {
            let body = json!({"password": password});
            let answer = office.call("PUT", &path, &office.admin, &[], Some(&body)).await;
            assert_eq!(answer.status, status, "{password}");
            assert!(status == 204 || answer.json["pointer"] == "/password", "{answer:?}");
        }
        let (_, stranger) = office.stranger();
        let body = json!({"password": "mine"});
        assert_eq!(office.call("PUT", &path, &stranger, &[], Some(&body)).await.problem(), (404, "not-found"));
        assert_eq!(office.call("DELETE", &path, &stranger, &[], None).await.problem(), (404, "not-found"));
    }

    #[tokio::test]
    async fn a_deleted_device_takes_its_password_along() {
        let office = Office::open().await;
        let device = office.phone("204").await;
        let body = json!({"password": "s3cret"});
        let path = format!("/v1/devices/{device}");
        assert_eq!(office.call("PUT", &format!("{path}/secret"), &office.admin, &[], Some(&body)).await.status, 204);
        assert_eq!(office.delete(&path).await.status, 204);
        assert!(!office.registry.has_secret(device));
    }
}
