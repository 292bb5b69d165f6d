//! HTTP connections, accepted within limits.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use metrics::Gauge;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};

use crate::census::{Census, Seat};

/// A listener whose connections are bounded in all and by source; one too many is closed at once and counted.
#[derive(Debug)]
pub struct Bounded {
    listener: TcpListener,
    census: Census,
    gauge: Gauge,
}

/// A connection and its place in the census.
#[derive(Debug)]
pub struct Seated {
    stream: TcpStream,
    _seat: Seat,
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Source(pub SocketAddr);

impl Connected<IncomingStream<'_, Bounded>> for Source {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        Self(*stream.remote_addr())
    }
}

impl Bounded {
    /// Bounds `listener` by what `census` lets in, here and at its other addresses.
    #[must_use]
    pub fn new(listener: TcpListener, census: Census) -> Self {
        Self { listener, census, gauge: metrics::gauge!("hookswitch_http_connections") }
    }
}

impl Listener for Bounded {
    type Io = Seated;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Seated, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, source)) => {
                    let Some(seat) = self.census.seat(source.ip(), &self.gauge) else { continue };
                    // A popup is small and must not wait for a fuller packet. Without it it is late, not lost.
                    let _ = stream.set_nodelay(true);
                    return (Seated { stream, _seat: seat }, source);
                }
                Err(error) => {
                    metrics::counter!("hookswitch_dropped_total", "where" => "http", "reason" => "accept_error")
                        .increment(1);
                    tracing::debug!(%error, "accepting failed; going on");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl AsyncRead for Seated {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Seated {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Out of descriptors, the next try would fail as well.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
