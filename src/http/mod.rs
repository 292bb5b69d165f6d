//! The HTTP API.

pub mod accounts;
pub mod answer;
pub mod auth;
pub mod body;
pub mod devices;
pub mod etag;
mod kind;
pub mod measure;
pub mod pbxs;
pub mod problem;
pub mod query;
pub mod queues;
pub mod responses;
pub mod secret;
pub mod sites;
pub mod sse;
pub mod state;
pub mod tokens;
pub mod users;
pub mod values;
