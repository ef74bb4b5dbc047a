//! The distributed hash table (BEP 5, 32, 42, 43): finds peers without a tracker.
//!
//! [`Dht`] is one node of one address family, without I/O: packets, time and randomness go in, packets and peers come out. Its
//! parts are [`message`] (encoding of packets), `table` (the routing table), `lookup` (one iterative search), `server` and
//! `store` (answers to other nodes' queries), `external` (our address as others see it) and [`state`] (data saved between runs).
//! [`service`] adds a socket and a thread per family. The two families are separate networks (BEP 32); each passes on nodes that
//! it learns for the other.

pub mod bloom;
mod decode;
mod encode;
mod external;
mod id;
pub mod item;
pub mod item_request;
mod item_store;
mod lookup;
mod maintain;
pub mod message;
mod node;
mod running;
mod server;
pub mod service;
mod signature;
pub mod state;
mod stats;
mod store;
mod table;
mod unsolicited;

pub use id::NodeId;
pub use lookup::LookupSummary;
pub use message::{Contact, Family};
pub use node::{Dht, DhtOutput, NodeSettings};
pub use service::{DhtConfig, DhtService, FoundPeers};
pub use state::DhtState;
pub use stats::DhtStats;

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
