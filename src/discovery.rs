//! Peer discovery: [`tracker`] announces to trackers, [`dht`] finds peers without trackers, and [`lsd`] finds peers on the local
//! network.
//! These modules yield peer addresses and know nothing of pieces.

pub mod dht;
mod host_names;
pub mod lsd;
pub mod tracker;
