//! SIP over WebSocket (RFC 7118): one message a WebSocket message, after an upgrade that names the subprotocol `sip`.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::handshake::server::{Callback, ErrorResponse, Request, Response};
use tokio_tungstenite::tungstenite::http::header::{ORIGIN, SEC_WEBSOCKET_PROTOCOL};
use tokio_tungstenite::tungstenite::http::{HeaderValue, StatusCode};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::config::Origins;
use crate::sip::scan::MESSAGE_LEN_MAX;

use super::wire::{Next, Wire};

/// A WebSocket connection.
pub(super) struct WebSocket<S> {
    socket: WebSocketStream<Metered<S>>,
    /// What came and was not asked for yet.
    arrived: Option<Next>,
    out: Vec<Message>,
    owed: usize,
}

/// Counts what is read, to tell how much there is of a message that is not whole: the library holds it.
struct Metered<S> {
    stream: S,
    /// Since the last whole message, less what whole control frames took.
    read: usize,
    /// Something was read since [`WebSocket::more`] looked.
    is_fresh: bool,
}

/// Lets in who speaks SIP and comes from a page that may.
struct Upgrade<'a> {
    origins: &'a Origins,
}

/// Upgrades a connection that speaks HTTP, within `wait`; none, and counted, when its client does not get there.
pub(super) async fn upgrade<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    origins: &Origins,
    wait: Duration,
) -> Option<WebSocket<S>> {
    let config = WebSocketConfig::default()
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(BUFFER_BYTES)
        .max_write_buffer_size(WRITE_BYTES_MAX)
        .max_message_size(Some(MESSAGE_LEN_MAX))
        .max_frame_size(Some(MESSAGE_LEN_MAX));
    let metered = Metered { stream, read: 0, is_fresh: false };
    let upgrade = tokio_tungstenite::accept_hdr_async_with_config(metered, Upgrade { origins }, Some(config));
    match tokio::time::timeout(wait, upgrade).await {
        Ok(Ok(mut socket)) => {
            socket.get_mut().read = 0;
            Some(WebSocket { socket, arrived: None, out: Vec::new(), owed: 0 })
        }
        Ok(Err(error)) => {
            // A refusal of our own was counted by its reason.
            if !matches!(error, Error::Http(_)) {
                dropped("handshake");
            }
            tracing::debug!(%error, "a WebSocket handshake failed");
            None
        }
        Err(_) => {
            dropped("handshake_wait");
            None
        }
    }
}

impl Callback for Upgrade<'_> {
    fn on_request(self, request: &Request, mut response: Response) -> Result<Response, ErrorResponse> {
        let offers = request.headers().get_all(SEC_WEBSOCKET_PROTOCOL);
        let speaks_sip = offers
            .iter()
            .filter_map(|offer| offer.to_str().ok())
            .flat_map(|offer| offer.split(','))
            .any(|offer| offer.trim() == SUBPROTOCOL);
        if !speaks_sip {
            return Err(refused(
                StatusCode::BAD_REQUEST,
                "subprotocol",
                "Sec-WebSocket-Protocol must offer sip (RFC 7118)",
            ));
        }
        // Who has no Origin is no browser, and could write any: the check guards people from pages, not us from clients.
        if let Some(origin) = request.headers().get(ORIGIN)
            && !origin.to_str().is_ok_and(|origin| self.origins.admit(origin))
        {
            let what = "pages of this origin may not connect: add it to ws_origins of the listener";
            return Err(refused(StatusCode::FORBIDDEN, "origin", what));
        }
        response.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(SUBPROTOCOL));
        Ok(response)
    }
}

fn refused(status: StatusCode, reason: &'static str, what: &str) -> ErrorResponse {
    dropped(reason);
    let mut response = ErrorResponse::new(Some(format!("{what}\n")));
    *response.status_mut() = status;
    response
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire for WebSocket<S> {
    async fn more(&mut self) -> bool {
        let socket = &mut self.socket;
        // Wakes for pieces as well, since the time and the room a message may take begin with its first byte.
        let came = poll_fn(|cx| match socket.poll_next_unpin(cx) {
            Poll::Ready(came) => Poll::Ready(Some(came)),
            Poll::Pending if std::mem::take(&mut socket.get_mut().is_fresh) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await;
        let meter = self.socket.get_mut();
        let message = match came {
            None => return true,
            Some(Some(Ok(message))) => message,
            Some(Some(Err(error))) => {
                self.arrived = lost(&error);
                return self.arrived.is_some();
            }
            Some(None) => return false,
        };
        match message {
            Message::Text(text) => self.arrived = Some(next(text.into())),
            Message::Binary(bytes) => self.arrived = Some(next(bytes)),
            // May stand between the pieces of a message. Pongs are the library's to send.
            Message::Ping(payload) | Message::Pong(payload) => {
                meter.read = meter.read.saturating_sub(CONTROL_HEAD_BYTES + payload.len());
                return true;
            }
            Message::Close(_) | Message::Frame(_) => return false,
        }
        meter.read = 0;
        true
    }

    fn next(&mut self) -> Option<Next> {
        self.arrived.take()
    }

    fn begun(&self) -> usize {
        self.socket.get_ref().read
    }

    fn owe(&mut self, message: &[u8]) {
        self.owed += message.len();
        // Browsers read both; some libraries only text, which not every SIP message is.
        self.out.push(match std::str::from_utf8(message) {
            Ok(text) => Message::text(text),
            Err(_) => Message::binary(Bytes::copy_from_slice(message)),
        });
    }

    fn owed(&self) -> usize {
        self.owed
    }

    async fn send(&mut self) -> io::Result<()> {
        self.owed = 0;
        for message in std::mem::take(&mut self.out) {
            self.socket.feed(message).await.map_err(io::Error::other)?;
        }
        self.socket.flush().await.map_err(io::Error::other)
    }

    async fn farewell(&mut self) {
        let _ = self.socket.close(None).await;
        let _ = self.socket.get_mut().stream.shutdown().await;
    }
}

/// What a whole WebSocket message is: SIP, or the line breaks that keep a connection alive (RFC 5626 §3.5.1).
fn next(bytes: Bytes) -> Next {
    let is_ping = bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n'));
    if is_ping { Next::Ping } else { Next::Message(bytes) }
}

/// What a failure is the peer's fault; none when the connection is just gone.
fn lost(error: &Error) -> Option<Next> {
    let why = match error {
        Error::Capacity(_) => "ws_message_too_long",
        Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => return None,
        Error::Protocol(_) | Error::Utf8(_) => "ws_protocol",
        _ => return None,
    };
    Some(Next::Lost { why, tell: None })
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buf);
        let read = buf.filled().len() - before;
        self.read = self.read.saturating_add(read);
        self.is_fresh |= read > 0;
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn dropped(reason: &'static str) {
    metrics::counter!("hookswitch_dropped_total", "where" => "sip_ws", "reason" => reason).increment(1);
}

/// RFC 7118 §4.1.
const SUBPROTOCOL: &str = "sip";
/// Of a control frame from a client: two bytes and its mask (RFC 6455 §5.2, §5.5).
const CONTROL_HEAD_BYTES: usize = 6;
/// The library would take 128 KiB a connection.
const BUFFER_BYTES: usize = 4 * 1024;
/// What a peer that does not read may have waiting; more than the replies of one turn.
const WRITE_BYTES_MAX: usize = 256 * 1024;
