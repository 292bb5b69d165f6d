//! Inputs to begin from: the recordings and samples that the other tests read as well.

use std::fs;
use std::path::PathBuf;

/// `fixtures/hep`: recordings, each packet after its length (u32, big-endian).
pub fn hep_recordings() -> Vec<Vec<u8>> {
    files("hep", "bin")
}

/// The packets in them.
pub fn hep_packets() -> Vec<Vec<u8>> {
    let recordings = hep_recordings();
    recordings.iter().flat_map(|recording| super::dialog::packets(recording).map(<[u8]>::to_vec)).collect()
}

/// `fixtures/notify`: bodies of notifications.
pub fn notifications() -> Vec<Vec<u8>> {
    files("notify", "xml")
}

/// `fixtures/sip`: messages.
pub fn sip_messages() -> Vec<Vec<u8>> {
    files("sip", "sip")
}

/// The same one after the other with keepalives between them, cut in pieces of 1, 8 and 64 bytes.
pub fn sip_streams() -> Vec<Vec<u8>> {
    let messages = sip_messages();
    let pieces = [0_u8, 7, 63].into_iter().cycle();
    messages.chunks(3).zip(pieces).map(|(some, piece)| [&[piece][..], &some.join(&b"\r\n\r\n"[..])].concat()).collect()
}

/// `fixtures/esl`: the beginnings of what an event socket said.
pub fn event_sockets() -> Vec<Vec<u8>> {
    let begun = |mut recording: Vec<u8>| {
        recording.truncate(12_000);
        recording
    };
    files("esl", "txt").into_iter().map(begun).collect()
}

/// `fixtures/ami`: the beginnings of calls and lists that a manager interface told.
pub fn managers() -> Vec<Vec<u8>> {
    let middle = |recording: Vec<u8>| recording.get(8_000..20_000).unwrap_or(&recording).to_vec();
    files("ami", "ami").into_iter().map(middle).collect()
}

/// Files of `fixtures/FOLDER` in order of name.
fn files(folder: &str, extension: &str) -> Vec<Vec<u8>> {
    // The fuzz programs are of another crate, two folders down.
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let root = root.ancestors().find(|folder| folder.join("fixtures").is_dir()).expect("the fixtures are there");
    let entries = fs::read_dir(root.join("fixtures").join(folder)).expect("a folder of fixtures");
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.retain(|path| path.extension().is_some_and(|found| found == extension));
    paths.sort();
    assert!(!paths.is_empty(), "fixtures/{folder} has no .{extension}");
    paths.iter().map(|path| fs::read(path).expect("it can be read")).collect()
}
