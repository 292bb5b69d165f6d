//! Captures through the engine: whatever the packets are wrapped in, however the file is read, and wherever it breaks off.

#[path = "../support/mod.rs"]
mod support;

mod command;
mod counts;
mod damage;
mod heard;
mod logs;
mod offers;
mod order;
mod page;
mod wraps;
