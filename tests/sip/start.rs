//! Starting and stopping, as an operator sees it.

use std::net::UdpSocket;
use std::process::Command;

use crate::daemon::{ALL_MODES, Daemon, Phone, command, status};

fn refusal(configuration: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let output = command(folder.path(), configuration).output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn a_taken_port_is_one_line_that_names_the_key_to_change() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let said = refusal(&format!("[listeners.office]\nmode = \"registrar\"\nbind = \"udp:{address}\""));
    assert_eq!(
        said.trim_end(),
        format!(
            "hookswitch: listeners.office.bind: can't listen on udp:{address}: another program has this port; choose another one"
        )
    );
}

#[test]
fn an_open_registrar_and_other_mistakes_are_refused_all_at_once() {
    let said = refusal("[listeners.registrar]\nbind = \"udp:0.0.0.0:0\"\nauth = \"digest\"\ncolour = 1");
    for expected in [
        "3 mistakes in",
        "listeners.registrar.networks: udp:0.0.0.0:0 can be reached from outside",
        "listeners.registrar.auth: digest authentication is not built yet",
        "listeners.registrar.colour: no such key",
    ] {
        assert!(said.contains(expected), "{expected}\n{said}");
    }
}

#[test]
fn two_daemons_never_share_a_data_folder() {
    let first = Daemon::start(ALL_MODES);
    let output = command(&first.folder, ALL_MODES).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("data_dir: another hookswitch runs on the folder"), "{said}");
}

#[tokio::test]
async fn a_restart_keeps_the_token_and_what_was_registered() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Daemon::start_in(folder.path(), ALL_MODES);
    let token = first.token();
    let registrar = first.address("registrar", "udp", false);
    let phone = Phone::near(registrar).await;
    assert!(status(&phone.ask(registrar, &phone.register("101", 1, 600)).await).contains("200"));
    assert!(Command::new("kill").arg(first.pid().to_string()).status().unwrap().success());
    assert!(first.wait().success(), "SIGTERM ends it in good order");
    let second = Daemon::start_in(folder.path(), ALL_MODES);
    assert_eq!(second.token(), token);
    assert_eq!(second.device("101").await.expect("it is still known")["state"], "connected");
}
