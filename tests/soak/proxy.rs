//! A cable to Postgres that breaks at the worst moment: around a COMMIT.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// Forwards connections; cuts one at every few COMMITs.
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    /// Cut before the COMMIT reached the server; after, with its answer lost; after, with the server not told.
    pub cuts: Arc<[AtomicU32; 3]>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// In front of `server`; cuts at every `every`th COMMIT.
    pub async fn start(server: SocketAddr, every: u32) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("bound");
        let cuts: Arc<[AtomicU32; 3]> = Arc::default();
        let (counts, commits) = (cuts.clone(), Arc::new(AtomicU32::new(0)));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(server).await else { continue };
                tokio::spawn(forward(client, server, every, commits.clone(), counts.clone()));
            }
        });
        Self { address, cuts, task }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn forward(
    mut client: TcpStream,
    mut server: TcpStream,
    every: u32,
    commits: Arc<AtomicU32>,
    cuts: Arc<[AtomicU32; 3]>,
) {
    let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(length @ 1..) = read else { return };
                let bytes = &asked[..length];
                let holds = |what: &[u8]| bytes.windows(what.len()).any(|window| window == what);
                // Bindings alone are one statement, which commits by itself. Before the first of them it is the start.
                let commit = holds(BINDINGS) || (holds(COMMIT) && commits.load(Relaxed) > 0);
                let number = if commit { commits.fetch_add(1, Relaxed) + 1 } else { 1 };
                let way = (number / every) as usize % cuts.len();
                let cut = commit && number.is_multiple_of(every);
                if cut {
                    cuts[way].fetch_add(1, Relaxed);
                }
                if cut && way == 0 {
                    return;
                }
                if server.write_all(bytes).await.is_err() {
                    return;
                }
                if cut && way == 1 {
                    return;
                }
                if cut {
                    drop(client);
                    // The server goes on with a client that it believes to be there.
                    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(length @ 1..) = read else { return };
                if client.write_all(&answered[..length]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// A simple query (PostgreSQL's protocol, "Query"): its kind, its length, its text.
const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";

/// How a contact begins in a line of the log.
const BINDINGS: &[u8] = b"[{\"uri\":";
