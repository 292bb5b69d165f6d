//! Free ports that no other test takes.
//!
//! Programs under test bind ports by number, so a port must stay ours between the moment it is found free and the moment
//! the program binds it. Each block of ports is a locked file that all checkouts on the machine share, and lies below the
//! range the system draws its own from.

use std::fs::File;
use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};

/// A run of ports, free on UDP and TCP of both loopback addresses when it was taken. Dropping it gives them back.
#[derive(Debug)]
pub struct Ports {
    first: u16,
    _lock: File,
}

impl Ports {
    /// Takes a free block.
    pub fn take() -> Self {
        // Tests begin at different places so that they seldom try the same block.
        let start = std::process::id().wrapping_mul(7919) % u32::from(BLOCKS);
        for step in 0..u32::from(BLOCKS) {
            let block = u16::try_from((start + step) % u32::from(BLOCKS)).expect("less than BLOCKS");
            let first = FIRST + block * BLOCK;
            let Ok(lock) = lock_file(first) else { continue };
            if lock.try_lock().is_ok() && (first..first + BLOCK).all(is_free) {
                return Self { first, _lock: lock };
            }
        }
        panic!("all {BLOCKS} blocks of ports are taken");
    }

    /// The `index`th port of the block.
    pub fn port(&self, index: u16) -> u16 {
        assert!(index < BLOCK, "a block has {BLOCK} ports");
        self.first + index
    }

    /// The `index`th port, on 127.0.0.1.
    pub fn address(&self, index: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port(index)))
    }
}

/// The file that stands for a block. One that another user made can be locked as well, if not written.
fn lock_file(first: u16) -> io::Result<File> {
    let path = std::env::temp_dir().join(format!("hookswitch-test-ports-{first}"));
    File::open(&path).or_else(|_| File::create(&path))
}

fn is_free(port: u16) -> bool {
    ["127.0.0.1", "::1"]
        .iter()
        .all(|host| UdpSocket::bind((*host, port)).is_ok() && TcpListener::bind((*host, port)).is_ok())
}

const FIRST: u16 = 12_000;
const BLOCK: u16 = 20;
const BLOCKS: u16 = 1_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_that_is_taken_is_not_given_twice() {
        let (one, two) = (Ports::take(), Ports::take());
        assert_ne!(one.port(0), two.port(0));
    }
}
