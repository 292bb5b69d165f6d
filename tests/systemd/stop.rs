//! The end: in bounded time, with nothing owed.

use std::time::{Duration, Instant};

use crate::support::daemon::Daemon;
use crate::support::folder::Folder;
use crate::support::phone::{Phone, status};
use crate::support::postgres::Server;
use crate::support::wait::until;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_are_told_when_to_come_back_and_end() {
    let folder = Folder::new("stop");
    let mut daemon = Daemon::start(&folder).await;
    let stream = open_stream(&daemon).await;
    tokio::task::block_in_place(|| daemon.stop());
    let said = stream.await.expect("the stream ends in good order");
    let (_, farewell) = said.split_once(": the daemon stops\n").unwrap_or_else(|| panic!("{said}"));
    let retry_ms = farewell.strip_prefix("retry: ").and_then(|rest| rest.trim_end().parse::<u32>().ok());
    assert!(retry_ms.is_some_and(|wait| (2_000..5_000).contains(&wait)), "{farewell:?}");
    assert!(daemon.output().contains("everything is stored"), "{}", daemon.output());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_database_that_stands_still_and_open_streams_it_ends_in_the_time_it_may_take() {
    let folder = Folder::new("stop");
    let server = Server::start_new();
    let more = format!("[limits]\nstop_s = 2\n[database]\nurl = \"{}\"\n", server.database());
    let mut daemon = Daemon::start_with(&folder, &more).await;
    let stream = open_stream(&daemon).await;
    let phone = Phone::near(daemon.registrar).await;
    assert_eq!(status(&phone.ask(daemon.registrar, &phone.register("101", 1, 3600)).await), "SIP/2.0 200 OK");
    server.freeze();
    phone.tell(daemon.registrar, &phone.register("102", 1, 3600)).await;
    let held = "hookswitch_sip_pending_replies";
    until("a reply is held", async || (daemon.metric(held, "registrar").await >= 1.0).then_some(())).await;
    let asked = Instant::now();
    tokio::task::block_in_place(|| daemon.stop());
    let took = asked.elapsed();
    // Who was promised an answer has one: it is not known to be stored.
    let answer = phone.hear().await.expect("an answer before the end");
    assert!(status(&answer).contains(" 503 "), "{answer}");
    let said = stream.await.expect("the stream ends in good order");
    assert!(said.contains("\nretry: "), "{said}");
    assert!(daemon.output().contains("before the database had confirmed everything"), "{}", daemon.output());
    // Two seconds, and two more for the runtime; the rest is for a slow machine. systemd would wait for thirty.
    assert!(took < Duration::from_secs(15), "{took:?}");
    server.thaw();
}

/// Reads the admin's events until they end.
async fn open_stream(daemon: &Daemon) -> tokio::task::JoinHandle<String> {
    let request = reqwest::Client::new().get(format!("http://{}/v1/events", daemon.http)).bearer_auth(daemon.token());
    let mut answer = request.send().await.expect("the API answers");
    assert!(answer.status().is_success());
    let greeting = answer.chunk().await.expect("a stream").expect("it begins with something");
    tokio::spawn(async move {
        let mut said = String::from_utf8_lossy(&greeting).into_owned();
        while let Some(chunk) = answer.chunk().await.expect("the stream ends in good order") {
            said.push_str(&String::from_utf8_lossy(&chunk));
        }
        said
    })
}
