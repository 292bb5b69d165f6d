//! PBXs that hookswitch knows by subscription only: a real Kamailio with its presence modules, a real Asterisk with hints,
//! and a notifier that says exactly what a test wants.

#[path = "../support/mod.rs"]
mod support;

#[path = "../asterisk/ami.rs"]
#[allow(dead_code, reason = "shared with the Asterisk tests, which use all of it")]
mod ami;
#[path = "../kamailio/desk.rs"]
#[allow(dead_code, reason = "shared with the Kamailio tests, which use all of it")]
mod desk;
#[path = "../kamailio/office.rs"]
#[allow(dead_code, reason = "shared with the Kamailio tests, which use all of it")]
mod office;
#[path = "../asterisk/pbx.rs"]
#[allow(dead_code, reason = "shared with the Asterisk tests, which use all of it")]
mod pbx;

mod asterisk;
mod kamailio;
mod notifier;
mod publish;
