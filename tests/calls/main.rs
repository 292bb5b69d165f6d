//! Calls and offers as SIP shows them: messages in, through tracker and switchboard, offers and trails out.

mod connectors;
mod direct;
mod hostile;
mod identity;
mod lifecycle;
mod office;
mod queues;
mod simulation;
mod site;
mod subscriptions;
mod tenants;
mod wire;
mod world;
