//! Where peers come from. Each source gives addresses and knows nothing of pieces: [`http`] asks a tracker, [`tiers`]
//! decides which one and when. [`server`] is the other end of the same talk, a small tracker over [`registry`].

pub mod http;
pub mod registry;
pub mod server;
pub mod tiers;
