//! Calls and offers of one site: `apply(now, input, view) → effects`, pure.

mod view;

pub use view::{DeviceFacts, UserFacts, View};
mod number;
pub use number::{CompiledPlan, Number, NumberClass};
