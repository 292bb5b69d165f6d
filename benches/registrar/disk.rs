//! What the disk alone does: no answer can be quicker than the write it waits for.

use std::io::{Seek as _, Write as _};
use std::time::{Duration, Instant};

use crate::figures::millis;
use crate::support::folder::Folder;

/// How long each write took of as much as a commit of a full window brings, into a file that has its room already, as a
/// database's log has.
#[derive(Default)]
pub struct Disk(Vec<Duration>);

impl Disk {
    /// Some more of them.
    pub fn measure(&mut self, folder: &Folder) {
        let mut file = std::fs::File::create(folder.join("disk")).expect("the folder can be written");
        file.write_all(&vec![0; WRITES * WRITE_BYTES]).and_then(|()| file.sync_all()).expect("the disk has room");
        file.rewind().expect("it is a file");
        let write = vec![1; WRITE_BYTES];
        for _ in 0..WRITES {
            let started = Instant::now();
            file.write_all(&write).and_then(|()| file.sync_data()).expect("the disk has room");
            self.0.push(started.elapsed());
        }
    }

    /// A line for the page.
    pub fn line(&mut self) -> String {
        self.0.sort_unstable();
        let within = |share: usize| millis(self.0[self.0.len() * share / 100]);
        format!(
            "The disk alone, between the rounds: half of all writes of {} KiB are safe within {:.1} ms, 99 % within {:.1} ms.\n",
            WRITE_BYTES / 1024,
            within(50),
            within(99)
        )
    }
}

const WRITES: usize = 300;
const WRITE_BYTES: usize = 40 * 1024;
