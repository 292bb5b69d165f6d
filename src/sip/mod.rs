//! SIP without sockets: bytes in, decisions out.
