//! `[http]`: the API, and what stands between it and its clients.

use std::net::SocketAddr;

use crate::model::Network;

use super::origins::Origins;
use super::read::Section;

/// `[http]`: the API. Clients reach it without TLS: put a proxy in front of it before you open it to others (docs/proxy.md).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Http {
    /// `listen`: addresses.
    pub listen: Vec<SocketAddr>,
    /// `trusted_proxies`: addresses or networks of the proxies in front of the API. What they say in `X-Forwarded-For` is
    /// believed, so that the log names the client and not the proxy; what others say there is not. Default: none.
    pub trusted_proxies: Vec<Network>,
    /// `allowed_origins`: pages of other sites whose scripts may call the API (CORS); `"*"` is any. They need a token all the
    /// same. Default: none.
    pub allowed_origins: Origins,
}

impl Http {
    pub(super) fn read(mut section: Section<'_>) -> Self {
        let listen = section.list("listen", super::parse_address).unwrap_or_else(|| vec![super::loopback(8080)]);
        let trusted_proxies = section
            .list("trusted_proxies", |text| text.parse::<Network>().map_err(|error| error.to_string()))
            .unwrap_or_default();
        let allowed_origins = Origins::read(&mut section, "allowed_origins").unwrap_or_default();
        section.finish();
        Self { listen, trusted_proxies, allowed_origins }
    }
}
