//! Being let in, and not.

use hookswitch::config::Tls;
use hookswitch::registry::FeedState;

use super::server::{Office, SECRET, Server};

#[tokio::test]
async fn the_secret_is_never_said_where_the_pbx_can_challenge() {
    let (office, server) = (Office::open().await, Server::listen().await);
    office.follow("asterisk", &server.address(), Tls::Off);
    let mut peer = server.accept().await;
    peer.send("Asterisk Call Manager/5.0.4\r\n").await;
    let challenge = peer.asked().await;
    assert_eq!((challenge["Action"].as_str(), challenge["AuthType"].as_str()), ("Challenge", "MD5"));
    peer.answer(&challenge, "Success", "Challenge: 840415273\r\n").await;
    let login = peer.asked().await;
    // md5("840415273" + the secret), by another program.
    assert_eq!(login["Key"], "826a4bbe6258135ef81bc28697117925");
    assert!(!String::from_utf8_lossy(&peer.heard).contains(SECRET));
    peer.answer(&login, "Success", "Message: Authentication accepted\r\n").await;
    peer.snapshot("").await;
    office.up("asterisk").await;
}

#[tokio::test]
async fn a_pbx_that_can_not_challenge_is_told_the_secret() {
    let (office, server) = (Office::open().await, Server::listen().await);
    office.follow("asterisk", &server.address(), Tls::Off);
    let mut peer = server.accept().await;
    peer.send("Asterisk Call Manager/2.10.6\r\n").await;
    let challenge = peer.asked().await;
    peer.answer(&challenge, "Error", "Message: Must specify AuthType\r\n").await;
    let login = peer.asked().await;
    assert_eq!((login["Username"].as_str(), login["Secret"].as_str()), ("hookswitch", SECRET));
    peer.answer(&login, "Success", "Message: Authentication accepted\r\n").await;
    peer.snapshot("").await;
    office.up("asterisk").await;
}

#[tokio::test]
async fn a_wrong_password_waits_long_and_says_what_to_look_at() {
    let (office, server) = (Office::open().await, Server::listen().await);
    office.follow("asterisk", &server.address(), Tls::Off);
    let mut peer = server.accept().await;
    peer.send("Asterisk Call Manager/11.0.0\r\n").await;
    let challenge = peer.asked().await;
    peer.answer(&challenge, "Success", "Challenge: 1\r\n").await;
    let login = peer.asked().await;
    peer.answer(&login, "Error", "Message: Authentication failed\r\n").await;
    let (error, wait_ms) = office.failed("asterisk").await;
    assert!(error.contains("[hookswitch] in manager.conf") && error.contains("Authentication failed"), "{error}");
    assert!(!error.contains(SECRET));
    assert!(wait_ms > 15_000, "asking again soon would get us banned: {wait_ms} ms");
    assert_eq!(office.feed("asterisk").map(|feed| feed.state), Some(FeedState::Waiting));
}

#[tokio::test]
async fn something_else_than_an_asterisk_is_recognised() {
    let (office, server) = (Office::open().await, Server::listen().await);
    office.follow("asterisk", &server.address(), Tls::Off);
    let mut peer = server.accept().await;
    peer.send("HTTP/1.1 400 Bad Request\r\nServer: none\r\n\r\n").await;
    let (error, _) = office.failed("asterisk").await;
    assert!(error.contains("no Asterisk manager interface answers"), "{error}");
    assert!(peer.next_asked().await.is_none(), "it was told nothing: {:?}", peer.heard);
}

#[tokio::test]
async fn a_port_where_nothing_listens_is_said_so() {
    let office = Office::open().await;
    let address = Server::listen().await.address();
    office.follow("asterisk", &address, Tls::Off);
    let (error, wait_ms) = office.failed("asterisk").await;
    assert!(error.contains(&address), "{error}");
    assert!(wait_ms <= 1_000, "it may be back any moment");
}
