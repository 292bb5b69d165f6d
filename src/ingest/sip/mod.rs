//! SIP listeners.
mod pending;
mod recent;
mod socket;
