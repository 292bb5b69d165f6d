//! The command: what it prints and how it ends.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::folder::Folder;
use crate::support::packets::fixture;

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookswitch"));
    command.arg("replay").args(arguments).output().expect("it runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_good_capture_ends_with_0_and_a_table() {
    let output = run(&["fixtures/pcap/sip-direct-answered.pcap", "fixtures/pcap/sip-register.pcap"]);
    let out = text(&output.stdout);
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
    for part in [
        "inbound   18:06:03.043  +14155550100 (Jane Caller)",
        "answered",
        "101@127.0.0.1",
        "connected",
        "21 SIP messages in 21 records",
    ] {
        assert!(out.contains(part), "{part:?} is not in\n{out}");
    }
}

#[test]
fn what_can_not_be_read_ends_with_2_and_one_line_that_names_it() {
    let folder = Folder::new("replay-unreadable");
    let (garbage, empty) = (folder.write("garbage", b"\x07\x08\x09 whatever"), folder.write("empty", b""));
    for (path, part) in [
        (Path::new("no/such/file"), "No such file"),
        (&garbage, "of no known kind"),
        (&empty, "empty, there is nothing to replay"),
    ] {
        let output = run(&["fixtures/pcap/sip-register.pcap", &path.display().to_string()]);
        let said = text(&output.stderr);
        assert_eq!((output.status.code(), said.lines().count(), &*output.stdout), (Some(2), 1, &b""[..]), "{said}");
        assert!(said.contains(&path.display().to_string()) && said.contains(part), "{said}");
    }
}

#[test]
fn a_capture_that_breaks_off_ends_with_3_one_line_and_what_was_whole() {
    let folder = Folder::new("replay-truncated");
    let mut file = fixture("direct-answered");
    file.truncate(file.len() - 10);
    let path = folder.write("cut.pcap", file).display().to_string();
    let output = run(&[&path]);
    let said = text(&output.stderr);
    assert_eq!((output.status.code(), said.lines().count()), (Some(3), 1), "{said}");
    assert!(said.contains(&path) && said.contains("breaks off at byte") && said.contains("packet 13"), "{said}");
    assert!(text(&output.stdout).contains("12 SIP messages in 12 records"));
}

#[test]
fn members_are_named_as_the_pbx_names_them_before_their_phones_are_known() {
    let output = run(&["fixtures/ami/asterisk22-members.ami"]);
    let out = text(&output.stdout);
    let members: Vec<&str> = out.lines().filter_map(|line| line.split_once(": member ")).map(|(_, row)| row).collect();
    assert!(members.contains(&"added 101") && members.contains(&"added 103"), "{out}");
    assert!(members.iter().all(|row| row.split(' ').nth(1).is_some_and(|user| !user.is_empty())), "{out}");
}

#[test]
fn json_is_one_object_a_line_with_the_counts_last() {
    let output = run(&["--json", "fixtures/pcap/sip-direct-answered.pcap"]);
    let lines: Vec<serde_json::Value> =
        text(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let kinds: Vec<_> = lines.iter().map(|line| line["kind"].as_str().unwrap_or_default().to_owned()).collect();
    assert_eq!(kinds, ["call", "device", "totals"]);
    assert_eq!(lines[0]["call"]["outcome"], "answered");
    assert_eq!(lines[2]["responses"]["200"], 4);
}

#[test]
fn a_bad_links_file_is_named_with_its_line() {
    let folder = Folder::new("replay-links");
    let path = folder.write("links.toml", "[[users]]\nname = \"Anna\"\nphone = \"101\"\n").display().to_string();
    let output = run(&["fixtures/pcap/sip-register.pcap", "--links", &path]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains(&path) && said.contains("line 3") && said.contains("phone"), "{said}");
}

#[test]
fn it_leaves_no_database_behind() {
    let folder = Folder::new("replay-no-data");
    let capture = std::fs::canonicalize("fixtures/pcap/sip-register.pcap").expect("it is there");
    let mut command = Command::new(env!("CARGO_BIN_EXE_hookswitch"));
    command.current_dir(folder.path()).env("HOME", folder.path()).env("HOOKSWITCH_DATA_DIR", folder.join("data"));
    let output = command.arg("replay").arg(capture).output().expect("it runs");
    assert!(output.status.success());
    assert_eq!(std::fs::read_dir(folder.path()).expect("the folder is there").count(), 0);
}
