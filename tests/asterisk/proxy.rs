//! A wire that can be cut: TCP, handed on byte for byte.

use std::net::SocketAddr;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::support::ports::Ports;

/// A running proxy.
#[derive(Debug)]
pub struct Proxy {
    /// Where it takes connections.
    pub address: SocketAddr,
    target: watch::Sender<Option<SocketAddr>>,
    listener: JoinHandle<()>,
    _ports: Ports,
}

impl Proxy {
    /// Opens one that leads nowhere yet.
    pub async fn open() -> Self {
        let ports = Ports::take();
        let address = ports.address(0);
        let listener = TcpListener::bind(address).await.expect("the port is ours");
        let (target, now) = watch::channel(None);
        Self { address, target, listener: tokio::spawn(hand_on(listener, now)), _ports: ports }
    }

    /// New connections lead there.
    pub fn lead_to(&self, target: SocketAddr) {
        self.target.send_replace(Some(target));
    }

    /// Cuts all connections; new ones are cut at once.
    pub fn cut(&self) {
        self.target.send_replace(None);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.cut();
        self.listener.abort();
    }
}

async fn hand_on(listener: TcpListener, target: watch::Receiver<Option<SocketAddr>>) {
    while let Ok((mut near, _)) = listener.accept().await {
        let mut target = target.clone();
        tokio::spawn(async move {
            let Some(address) = *target.borrow_and_update() else { return };
            let Ok(mut far) = TcpStream::connect(address).await else { return };
            tokio::select! {
                _ = copy_bidirectional(&mut near, &mut far) => {}
                _ = target.changed() => {}
            }
        });
    }
}
