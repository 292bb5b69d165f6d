//! TLS for a client that has none: socat takes its connections and speaks TLS to the server.

use std::net::SocketAddr;
use std::process::Command;

use tokio::net::TcpStream;

use super::folder::Folder;
use super::ports::Ports;
use super::process::Process;
use super::tls::Certificate;
use super::wait::until;

/// A running tunnel.
#[derive(Debug)]
pub struct Tunnel {
    /// Where it takes connections, of the server's address family.
    pub entrance: SocketAddr,
    _process: Process,
    _ports: Ports,
}

impl Tunnel {
    /// To `server`, which must show `certificate`.
    pub async fn open(folder: &Folder, server: SocketAddr, certificate: &Certificate) -> Self {
        let ports = Ports::take();
        let entrance = SocketAddr::new(server.ip(), ports.port(0));
        let version = if server.is_ipv4() { 4 } else { 6 };
        let host = if server.is_ipv4() { server.ip().to_string() } else { format!("[{}]", server.ip()) };
        let mut socat = Command::new("socat");
        socat.arg(format!("TCP{version}-LISTEN:{},bind={host},reuseaddr,fork", entrance.port()));
        let shown = format!("cafile={},commonname=pbx.example", certificate.chain);
        socat.arg(format!("OPENSSL:{host}:{},pf=ip{version},verify=1,{shown}", server.port()));
        let name = format!("socat-{}", entrance.port());
        let mut process = Process::start("socat", &mut socat, &folder.join(format!("{name}.log")));
        until("socat listens", async || {
            process.assert_runs();
            TcpStream::connect(entrance).await.ok()
        })
        .await;
        Self { entrance, _process: process, _ports: ports }
    }
}
