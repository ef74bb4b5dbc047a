//! The distributed hash table (BEP 5, 32, 42, 43): peers found without a tracker.
//!
//! [`Dht`] is one node of one address family, and pure: packets, time and randomness go in, packets and peers come out.
//! It is put together from [`message`] (bytes ↔ values), `table` (whom we know), `lookup` (one search through the network),
//! `server` and `store` (what we answer others), `external` (what others say our address is) and [`state`] (what is kept
//! between runs). [`service`] puts a socket and a thread around it, one for each family: the two are separate networks
//! (BEP 32), which share nothing here but the nodes that one hears of for the other.

mod encode;
mod external;
mod id;
mod lookup;
mod maintain;
pub mod message;
mod node;
mod server;
pub mod service;
pub mod state;
mod store;
mod table;

pub use id::NodeId;
pub use lookup::LookupSummary;
pub use message::{Contact, Family};
pub use node::{Dht, DhtStats, NodeSettings, Output};
pub use service::{DhtConfig, DhtService, FoundPeers};
pub use state::DhtState;

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod simulation;
