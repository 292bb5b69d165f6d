//! Captures: files of any kind taken apart down to the SIP in them, and replayed.

use std::io::{Cursor, Read};
use std::path::Path;

use hookswitch::ingest::capture::{Captures, Wire};
use hookswitch::ingest::replay::{Links, News, Replay};
use hookswitch::sip::scan::MESSAGE_LEN_MAX;

/// What is found in a file is the same however it is read, each message is no longer than one may be, and a replay of it ends
/// with its counts.
pub fn run(bytes: &[u8]) {
    let whole = messages(Box::new(Cursor::new(bytes.to_vec())));
    assert!(whole.iter().all(|message| message.len() <= MESSAGE_LEN_MAX));
    // A piece smaller than any header, and one that few records fit.
    let piece = 1 + bytes.len() % 300;
    assert_eq!(messages(Box::new(Pieces(Cursor::new(bytes.to_vec()), piece))), whole);
    replay(bytes);
}

/// The messages in a file.
fn messages(reader: Box<dyn Read>) -> Vec<Vec<u8>> {
    let (mut wire, mut found, mut last_us) = (Wire::default(), Vec::new(), 0);
    let Ok(mut captures) = Captures::read(Path::new("capture"), reader) else { return found };
    loop {
        match captures.next_record() {
            Ok(Some((at_us, record))) => {
                last_us = at_us;
                wire.take(at_us, record, &mut |heard| found.push(heard.bytes.to_vec()));
            }
            Ok(None) => break,
            // The rest of the file is not read.
            Err(_) => {}
        }
    }
    wire.finish(last_us, &mut |heard| found.push(heard.bytes.to_vec()));
    found
}

fn replay(bytes: &[u8]) {
    let Ok(mut captures) = Captures::read(Path::new("capture"), Box::new(Cursor::new(bytes.to_vec()))) else { return };
    let mut replay = Replay::new(&Links::default()).expect("an empty office is good");
    let (mut records, mut calls) = (0, 0_u64);
    loop {
        match captures.next_record() {
            Ok(Some((at_us, record))) => replay.take(at_us, record),
            Ok(None) => break,
            Err(_) => continue,
        }
        records += 1;
        calls += replay.news().map(|news| u64::from(matches!(news, News::Call(_)))).sum::<u64>();
    }
    let end = replay.finish();
    calls += end.iter().map(|news| u64::from(matches!(news, News::Call(_)))).sum::<u64>();
    let Some(News::Totals(totals)) = end.last() else { panic!("the counts come last") };
    assert_eq!((totals.records, totals.calls.values().sum::<u64>()), (records, calls));
}

/// Hands out so many bytes a read.
struct Pieces(Cursor<Vec<u8>>, usize);

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = buffer.len().min(self.1);
        self.0.read(&mut buffer[..length])
    }
}
