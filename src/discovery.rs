//! Where peers come from. Each source gives addresses and knows nothing of pieces: `client` asks a tracker over `http` or
//! `udp`, in the words of `announce`; `tiers` decides which one and when; [`dht`] does without trackers, [`lsd`] finds the
//! neighbours. `server` is the other end of a tracker's talk, a small tracker over `registry`.

pub mod dht;
mod host_names;
pub mod lsd;
pub mod tracker;
