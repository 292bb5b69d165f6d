//! A UDP socket that keeps what it gets, in the place of hookswitch: what do peers really send?

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::Duration;

/// Keeps every datagram sent to it.
#[derive(Debug)]
pub struct Sink {
    seen: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    reader: Option<JoinHandle<()>>,
}

impl Sink {
    /// Listens on `address` and never answers.
    pub fn silent(address: SocketAddr) -> Self {
        Self::open(address, false)
    }

    /// Listens on `address` and answers every request with 200, as `t_replicate` waits for.
    pub fn answering(address: SocketAddr) -> Self {
        Self::open(address, true)
    }

    /// What it has got, in order.
    pub fn seen(&self) -> Vec<String> {
        self.seen.lock().expect("the reader does not panic").clone()
    }

    fn open(address: SocketAddr, answers: bool) -> Self {
        let socket = UdpSocket::bind(address).expect("the port is free");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a socket has a timeout");
        let (seen, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let reader = thread::spawn({
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            move || read(&socket, answers, &seen, &stop)
        });
        Self { seen, stop, reader: Some(reader) }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

fn read(socket: &UdpSocket, answers: bool, seen: &Mutex<Vec<String>>, stop: &AtomicBool) {
    let mut buffer = vec![0; 65_536];
    while !stop.load(Ordering::Acquire) {
        let (length, source) = match socket.recv_from(&mut buffer) {
            Ok(got) => got,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => continue,
            Err(_) => return,
        };
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        if answers && !text.starts_with("SIP/2.0") {
            let _ = socket.send_to(ok(&text).as_bytes(), source);
        }
        seen.lock().expect("nobody panics with it").push(text);
    }
}

/// The plainest 200 to a request (RFC 3261 §8.2.6).
fn ok(request: &str) -> String {
    let copied = ["Via:", "From:", "To:", "Call-ID:", "CSeq:"];
    let lines = request.split("\r\n").filter(|line| copied.iter().any(|name| line.starts_with(name)));
    let headers = lines.fold(String::new(), |headers, line| headers + line + "\r\n");
    format!("SIP/2.0 200 OK\r\n{headers}Content-Length: 0\r\n\r\n")
}
