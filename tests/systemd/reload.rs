//! SIGHUP: what is read again, what needs a restart, and what a mistake does.

use std::fs;

use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::phone::{Phone, status};
use crate::support::wait::until;

#[tokio::test]
async fn limits_rules_and_what_is_logged_change_at_once_and_the_rest_is_named() {
    let folder = Folder::new("reload");
    let daemon = Daemon::start_with(&folder, "[limits]\ndevices_max = 1000\n").await;
    let phone = Phone::near(daemon.registrar).await;
    let granted = phone.ask(daemon.registrar, &phone.register("101", 1, 3600)).await;
    assert!(granted.contains(";expires=3600"), "{granted}");
    let before = fs::read_to_string(&daemon.config).unwrap();

    // A mistake: its line and key, and everything as it was.
    rewrite(&daemon, &before.replace("devices_max = 1000", "devices_max = \"many\""));
    let refused = said(&daemon, "can't be read again").await;
    let line = before.lines().position(|line| line.starts_with("devices_max")).unwrap() + 1;
    assert!(refused.contains(&format!("line {line}: limits.devices_max: must be a whole number")), "{refused}");
    assert_eq!(status(&phone.ask(daemon.registrar, &phone.register("102", 1, 3600)).await), "SIP/2.0 200 OK");

    // Limits, what registrars grant, who may send, and what can't be taken up.
    let http = "http.listen = [";
    let after = before
        .replace("devices_max = 1000", "devices_max = 2\nreceive_buffer_kib = 4096\n[registrar]\nexpires_max_s = 3601")
        .replace("[listeners.replica]\n", "[listeners.replica]\nnetworks = [\"192.0.2.1\"]\n")
        .replace(http, &format!("{http}\"127.0.0.2:0\", "));
    rewrite(&daemon, &after);
    let read = said(&daemon, "the configuration was read again").await;
    for key in ["limits.devices_max", "registrar.expires_max_s", "listeners.replica.networks"] {
        assert!(read.contains(key), "{read}");
    }
    let waiting = said(&daemon, "needs a restart").await;
    assert!(
        waiting.contains("http.listen, limits.receive_buffer_kib") && !waiting.contains("devices_max"),
        "{waiting}"
    );
    until("the third device is one too many", async || {
        let answer = phone.ask(daemon.registrar, &phone.register("103", 1, 3600)).await;
        status(&answer).contains(" 503 ").then_some(())
    })
    .await;
    let granted = phone.ask(daemon.registrar, &phone.register("101", 2, 7000)).await;
    assert!(granted.contains(";expires=3601"), "{granted}");
    phone.tell(daemon.replica, &phone.request("OPTIONS", "101", 3, "")).await;
    let labels = "where=\"sip\",reason=\"network\"";
    until(labels, async || (daemon.metric("hookswitch_dropped_total", labels).await >= 1.0).then_some(())).await;

    // What is logged: from now on warnings only, and a reload is told of at info.
    rewrite(&daemon, &after.replace("log.level = \"info,hookswitch=debug\"", "log.level = \"warn\""));
    until("a second warning", async || (count(&daemon, "needs a restart") == 2).then_some(())).await;
    assert_eq!(count(&daemon, "the configuration was read again"), 1);
}

fn rewrite(daemon: &Daemon, text: &str) {
    fs::write(&daemon.config, text).unwrap();
    daemon.reload();
}

/// The last line that holds `text`, once there is one.
async fn said(daemon: &Daemon, text: &str) -> String {
    until(text, async || daemon.output().lines().rfind(|line| line.contains(text)).map(str::to_owned)).await
}

fn count(daemon: &Daemon, text: &str) -> usize {
    daemon.output().lines().filter(|line| line.contains(text)).count()
}
