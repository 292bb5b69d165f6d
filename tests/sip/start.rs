//! Starting and stopping, as an operator sees it.

use std::net::UdpSocket;

use crate::support::daemon::{Daemon, hookswitch};
use crate::support::folder::Folder;
use crate::support::phone::{Phone, status};

/// What it says when it does not start with this configuration.
fn refusal(configuration: &str) -> String {
    let folder = Folder::new("start");
    let head = format!("data_dir = \"{}\"\n", folder.join("data").display());
    let output = hookswitch(&folder.write("hookswitch.toml", head + configuration)).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_taken_port_is_one_line_that_names_the_key_to_change() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let said = refusal(&format!("[listeners.office]\nmode = \"registrar\"\nbind = \"udp:{address}\""));
    let expected = format!("can't listen on udp:{address}: another program has this port; choose another one");
    assert_eq!(said.trim_end(), format!("hookswitch: listeners.office.bind: {expected}"));
}

#[test]
fn an_open_registrar_and_other_mistakes_are_refused_all_at_once() {
    let said = refusal("[listeners.registrar]\nbind = \"udp:0.0.0.0:0\"\nauth = \"basic\"\ncolour = 1");
    for expected in [
        "3 mistakes in",
        "listeners.registrar.networks: udp:0.0.0.0:0 can be reached from outside",
        "listeners.registrar.auth: ",
        "listeners.registrar.colour: no such key",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
}

#[tokio::test]
async fn two_daemons_never_share_a_data_folder() {
    let folder = Folder::new("start");
    let first = Daemon::start(&folder).await;
    let output = hookswitch(&first.config).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("data_dir: another hookswitch runs on the folder"), "{said}");
}

#[tokio::test]
async fn a_restart_keeps_the_token_and_what_was_registered() {
    let folder = Folder::new("start");
    let mut daemon = Daemon::start(&folder).await;
    let token = daemon.token();
    let phone = Phone::near(daemon.registrar).await;
    assert!(status(&phone.ask(daemon.registrar, &phone.register("101", 1, 600)).await).contains("200"));
    daemon.restart().await;
    assert_eq!(daemon.token(), token, "there is one first token");
    assert_eq!(daemon.api().find_device("101").await.expect("it is still known")["state"], "connected");
}
