//! REGISTERs over connections that stay open, TCP or TLS, a fixed number of them unanswered at any time.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use crate::WINDOW;
use crate::load::{Outcome, PATIENCE};
use crate::request::{Request, read};

/// A phone's connection.
#[derive(Debug)]
pub struct Line<S> {
    pub stream: S,
    pub transport: &'static str,
    pub own: SocketAddr,
    pub user: usize,
    /// How often it has registered.
    pub round: usize,
    /// REGISTERs over this connection.
    sent: usize,
}

impl<S> Line<S> {
    pub fn new(stream: S, transport: &'static str, own: SocketAddr, user: usize, round: usize) -> Self {
        Self { stream, transport, own, user, round, sent: 0 }
    }
}

/// Opens a connection for each of `users` phones, some at a time, each from one of many addresses as in an office, since what
/// one source may open is bounded.
pub async fn open<S>(to: SocketAddr, users: usize, shake: impl AsyncFn(TcpStream, SocketAddr, usize) -> S) -> Vec<S> {
    let shake = &shake;
    let each = stream::iter(0..users).map(async |user| {
        let host = u8::try_from(2 + user / OF_ONE_SOURCE).expect("fewer than 254 thousand");
        let socket = TcpSocket::new_v4().expect("a socket; are there enough open files?");
        socket.bind(SocketAddr::from(([127, 0, 0, host], 0))).expect("all of 127/8 is ours");
        let stream = socket.connect(to).await.expect("it is accepted");
        stream.set_nodelay(true).expect("it is open");
        let own = stream.local_addr().expect("it is open");
        shake(stream, own, user).await
    });
    each.buffer_unordered(64).collect().await
}

/// Has each phone register `times` over its own connection.
pub async fn register<S: AsyncRead + AsyncWrite + Unpin>(lines: &mut [Line<S>], times: usize) -> Outcome {
    let started = Instant::now();
    let each = lines.len().div_ceil(WINDOW).max(1);
    let walks = join_all(lines.chunks_mut(each).map(|lines| walk(lines, times))).await;
    let mut outcome = Outcome { took: started.elapsed(), ..Outcome::default() };
    for (status, wait) in walks.into_iter().flatten() {
        match status {
            Some(200) => outcome.accepted += 1,
            Some(_) => outcome.refused += 1,
            None => outcome.lost += 1,
        }
        outcome.waits.extend(status.map(|_| wait));
    }
    outcome.waits.sort_unstable();
    outcome
}

/// One phone after the other, again and again; each answer's status, if there was one.
async fn walk<S: AsyncRead + AsyncWrite + Unpin>(lines: &mut [Line<S>], times: usize) -> Vec<(Option<u16>, Duration)> {
    let mut answers = Vec::with_capacity(lines.len() * times);
    for _ in 0..times {
        for line in &mut *lines {
            let started = Instant::now();
            let status = tokio::time::timeout(PATIENCE, line.register()).await.unwrap_or_default();
            answers.push((status, started.elapsed()));
        }
    }
    answers
}

impl<S: AsyncRead + AsyncWrite + Unpin> Line<S> {
    async fn register(&mut self) -> Option<u16> {
        let Self { transport, own, user, round, sent: number, .. } = *self;
        (self.round, self.sent) = (round + 1, number + 1);
        let (mut text, mut length) = (Vec::with_capacity(1024), 0);
        let request = Request { transport, own, prefix: "u", user, number, round, proof: None, again: false };
        request.write(&mut text);
        self.stream.write_all(&text).await.ok()?;
        self.stream.flush().await.ok()?;
        let mut buffer = [0; 2048];
        while !buffer[..length].ends_with(b"\r\n\r\n") {
            match self.stream.read(&mut buffer[length..]).await {
                Ok(more @ 1..) => length += more,
                _ => return None,
            }
        }
        read(&buffer[..length]).filter(|(_, answered)| *answered == number).map(|(status, _)| status)
    }
}

/// Below what one source may have by default.
const OF_ONE_SOURCE: usize = 800;
