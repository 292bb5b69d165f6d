//! An Asterisk known by its hints only, as a PBX is that offers nothing but lamps for its extensions.

use std::time::Duration;

use serde_json::Value;

use crate::desk::Person;
use crate::pbx::{Pbx, Version};
use crate::support::api::{items, text};
use crate::support::baresip::{Account, Phone};
use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::sipp::Scenario;
use crate::support::wait::until;

/// The offer that was shown in `state` for the `times`th time.
async fn nth(person: &Person, state: &str, times: usize) -> Value {
    until(&format!("offer {times} is {state}"), async || {
        person.offers().into_iter().filter(|offer| offer["state"] == state).nth(times - 1)
    })
    .await
}

#[tokio::test]
async fn a_ringing_extension_known_only_by_its_hint_pops_is_answered_and_ends_call_after_call() {
    let folder = Folder::new("subscribe-asterisk");
    let nobody = "127.0.0.1:9".parse().expect("an address");
    let pbx = Pbx::start(&folder, Version::TwentyTwo, nobody).await;
    let settings = format!(
        "[feeds.subscription]\naddress = \"{0}\"\nuser = \"watcher\"\nsecret = \"pwwatcher\"\ndomain = \"{0}\"\n\
         dialogs = [\"101\", \"102\"]\n",
        pbx.address
    );
    let daemon = Daemon::start_with(&folder, &settings).await;
    let admin = daemon.api();
    // Hints tell of calls only: the phones themselves are devices because the configuration names them.
    let device = admin.device("101", "disconnected").await;
    let (id, api) = admin.agent("Ann").await;
    admin.link(&id, &device).await;
    let ann = Person::watches(&id, &device, api).await;
    let domain = pbx.address.to_string();
    let account =
        |extension| Account { extension, domain: &domain, proxy: pbx.address, transport: "udp", expires_s: 60 };
    let mut p101 = Phone::start(&folder, account("101")).await;
    let mut p102 = Phone::start(&folder, account("102")).await;
    let mut seen = Vec::new();
    for round in 1..=2 {
        let (target, source) = (Some(pbx.address), Some(pbx.trunk));
        let pause = Duration::from_secs(1);
        let call = Scenario { target, source, service: "101", pause, ..Scenario::new("trunk-calls") }.start(&folder);
        p101.rings().await;
        let offers = async |state: &str| nth(&ann, state, round).await;
        let offer = offers("offered").await;
        assert_eq!(
            (&offer["caller"]["number"], &offer["caller"]["name"]),
            (&"+14155550100".into(), &"Jane Caller".into())
        );
        p101.answer().await;
        offers("answered").await;
        p101.hang_up().await;
        offers("ended").await;
        call.passes().await;
        seen.push(text(&offer["call"]));
    }
    assert_ne!(seen[0], seen[1], "Asterisk calls both dialogs 101, and they are two calls");
    p101.dial("102").await;
    p102.rings().await;
    p102.answer().await;
    p101.hang_up().await;
    let internal = until("the call between colleagues has ended", async || {
        let calls = admin.get("/v1/calls").await;
        let call = items(&calls).iter().find(|call| call["direction"] == "internal")?.clone();
        (call["state"] == "ended").then_some(call)
    })
    .await;
    assert_eq!(internal["legs"].as_array().map(Vec::len), Some(2), "both ends are one call: {internal:#}");
}
