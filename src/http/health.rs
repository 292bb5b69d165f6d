//! How a device is.

use axum::Json;
use axum::extract::State;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::auth::Admin;
use super::devices;
use super::problem::{Problem, Result};
use super::query::Ids;
use super::responses::Reading;
use super::state::AppState;
use crate::model::DeviceId;
use crate::registry::Health;

/// The routes of this file.
pub fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(read_health))
}

/// Read a device's health
///
/// Whether it is bound and whether its PBX can reach it (a phone may be the one without the other), how often it went down
/// or moved in the last 24 hours, its round trip, and whether two phones use its address-of-record. `troubles` names what
/// is not as it should be.
#[utoipa::path(get, path = "/v1/devices/{id}/health", tag = "devices", params(("id" = DeviceId, Path)),
    responses((status = 200, description = "How it is", body = Health), Reading))]
async fn read_health(State(state): State<AppState>, admin: Admin, Ids(id): Ids<DeviceId>) -> Result<Json<Health>> {
    let view = devices::seen(&state, admin, id)?;
    state.stored(view.awaits).await?;
    let health = state.registry.device_health(id).await?;
    health.map(Json).ok_or_else(|| Problem::not_found("device"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use crate::http::testing::Office;
    use crate::registry::ReportedContact;

    #[tokio::test]
    async fn x8_unreachable_is_not_unregistered() {
        let office = Office::open().await;
        let device = office.phone("204").await;
        let path = format!("/v1/devices/{device}/health");
        let health = office.get(&path).await.json;
        assert_eq!((&health["state"], &health["reachable"]), (&json!("connected"), &json!(null)));
        assert_eq!(health["troubles"], json!([]));
        let target = office.registry.resolve(office.pbx, "204", "").unwrap();
        let ping = |reachable, rtt| {
            let uri = Some("sip:204@192.0.2.7:5060");
            office.registry.reachability(&target, uri, Some(reachable), rtt, office.clock.now());
        };
        ping(true, Some(12_000));
        let health = office.get(&path).await.json;
        assert_eq!((&health["reachable"], &health["round_trip_us"]), (&json!(true), &json!(12_000)));
        let mut events = office.stream("/v1/events", &office.admin, &[]).await;
        events.next().await.unwrap();
        office.clock.advance(Duration::from_mins(1));
        ping(false, None);
        let health = office.get(&path).await.json;
        assert_eq!((&health["state"], &health["troubles"]), (&json!("connected"), &json!(["unreachable"])));
        assert_eq!(health["contacts"][0]["reachable_since"], json!(office.clock.now().unix));
        assert_eq!(events.next().await.unwrap().1, "device.unreachable");
        assert_eq!(office.get("/v1/devices?reachable=false").await.items("id"), [json!(device)]);
        assert!(office.get("/v1/devices?reachable=true").await.items("id").is_empty());
        office.clock.advance(Duration::from_hours(2));
        while office.registry.expire(office.clock.now()) {}
        let health = office.get(&path).await.json;
        assert_eq!((&health["flaps"], &health["troubles"]), (&json!(1), &json!(["unregistered"])));
    }

    #[tokio::test]
    async fn x8_two_phones_on_one_address_of_record_show_and_so_does_flapping() {
        let office = Office::open().await;
        let target = office.registry.resolve(office.pbx, "204", "").unwrap();
        let device = target.device();
        let contact = |host: &str| ReportedContact {
            uri: format!("sip:204@{host}:5060"),
            received: format!("{host}:5060").parse().ok(),
            user_agent: Some("Fictional Phone/1.0".into()),
            ..ReportedContact::default()
        };
        let lists = |hosts: &[&str]| {
            let contacts = hosts.iter().map(|host| contact(host)).collect();
            office.registry.contacts_reported(&target, contacts, true, office.clock.now());
        };
        for _ in 0..3 {
            lists(&["192.0.2.7"]);
            lists(&[]);
        }
        lists(&["192.0.2.7", "192.0.2.8"]);
        let path = format!("/v1/devices/{device}/health");
        let health = office.get(&path).await.json;
        assert_eq!((&health["flaps"], &health["duplicate"]), (&json!(3), &json!(true)));
        assert_eq!(health["troubles"], json!(["flapping", "duplicate"]));
        assert_eq!(office.get("/v1/devices?duplicate=true").await.items("id"), [json!(device)]);
        // What was more than a day ago is history.
        office.clock.advance(Duration::from_hours(2));
        while office.registry.expire(office.clock.now()) {}
        office.clock.advance(Duration::from_hours(25));
        lists(&["192.0.2.7"]);
        let health = office.get(&path).await.json;
        assert_eq!(
            (&health["flaps"], &health["duplicate"], &health["troubles"]),
            (&json!(0), &json!(false), &json!([]))
        );
        let (_, stranger) = office.stranger();
        assert_eq!(office.call("GET", &path, &stranger, &[], None).await.problem(), (404, "not-found"));
    }
}
