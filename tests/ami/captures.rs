//! Recorded manager interfaces say the same whole, byte by byte and cut short.

use std::fs;
use std::path::{Path, PathBuf};

use super::told::told;

#[test]
fn each_recording_says_what_is_written_beside_it() {
    let mut wrong = Vec::new();
    for path in captures() {
        let said = told([fs::read(&path).expect("a fixture can be read").as_slice()]).join("\n") + "\n";
        let mut expected = path.clone().into_os_string();
        expected.push(".expected");
        if std::env::var_os("HOOKSWITCH_WRITE_EXPECTED").is_some() {
            fs::write(&expected, &said).expect("the fixtures can be written");
        }
        let known = fs::read_to_string(&expected).unwrap_or_default();
        if known != said {
            let first = known.lines().zip(said.lines()).find(|(known, said)| known != said);
            wrong.push(format!("{}: {first:#?}", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn byte_by_byte_is_the_same_as_whole() {
    for path in captures() {
        let bytes = fs::read(&path).expect("a fixture can be read");
        assert_eq!(told(bytes.chunks(1)), told([bytes.as_slice()]), "{}", path.display());
    }
}

#[test]
fn cut_short_says_the_beginning_of_what_the_whole_says() {
    for path in captures() {
        let bytes = fs::read(&path).expect("a fixture can be read");
        let whole = told([bytes.as_slice()]);
        // Every byte would be every message many times over; a prime step cuts everywhere in time.
        for cut in (0..bytes.len()).step_by(997) {
            let part = told([&bytes[..cut]]);
            assert!(part.len() <= whole.len() && part[..] == whole[..part.len()], "{} at {cut}", path.display());
        }
    }
}

#[test]
fn torn_anywhere_and_gone_on_with_says_the_same() {
    for path in captures() {
        let bytes = fs::read(&path).expect("a fixture can be read");
        let whole = told([bytes.as_slice()]);
        for cut in (1..bytes.len()).step_by(1_499) {
            let (left, right) = bytes.split_at(cut);
            assert_eq!(told([left, right]), whole, "{} at {cut}", path.display());
        }
    }
}

#[test]
fn every_leg_that_starts_ends_and_nothing_is_told_of_it_after() {
    for path in captures() {
        let lines = told([fs::read(&path).expect("a fixture can be read").as_slice()]);
        let starts: Vec<&str> =
            lines.iter().filter_map(|line| line.split_once(" started ")).map(|(leg, _)| leg).collect();
        for leg in &starts {
            assert_eq!(starts.iter().filter(|other| *other == leg).count(), 1, "{}: {leg}", path.display());
            let last = lines.iter().rfind(|line| line.starts_with(&format!("{leg} "))).expect("it started");
            assert!(last.contains(" ended("), "{}: {last}", path.display());
        }
    }
}

#[test]
fn a_channel_that_rings_before_its_dial_is_told_is_dialled_all_the_same() {
    let text = fs::read_to_string(folder().join("asterisk22-outbound-answered.ami")).expect("a fixture can be read");
    let mut messages: Vec<&str> = text.split_inclusive("\r\n\r\n").collect();
    let of = |event: &str| messages.iter().position(|message| message.starts_with(&format!("Event: {event}\r\n")));
    let (dial, ringing) = (of("DialBegin").expect("a dial"), of("Newstate").expect("a state"));
    assert!(dial < ringing && messages[ringing].contains("ChannelStateDesc: Ringing"));
    // As on a busy machine.
    let late = messages.remove(dial);
    messages.insert(ringing, late);
    let as_it_was = told([text.as_bytes()]);
    assert_eq!(told([messages.concat().as_bytes()]), as_it_was);
}

/// The text of one recording's expectation, for tests that look at what matters in it.
pub fn lines_of(name: &str) -> Vec<String> {
    told([fs::read(folder().join(format!("{name}.ami"))).expect("a fixture can be read").as_slice()])
}

fn captures() -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = fs::read_dir(folder())
        .expect("the fixtures are there")
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.extension().is_some_and(|extension| extension == "ami"))
        .collect();
    found.sort();
    assert!(found.len() > 20, "the fixtures are there");
    found
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/ami")
}
