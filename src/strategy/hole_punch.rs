//! Hole punching (BEP 55): two peers behind routers that let nobody in connect to each other, because a third peer, the relay, to
//! which both are connected, makes them dial at the same time. These are the decisions of all three; the time is a
//! [`std::time::Duration`] since some start.
//!
//! Whoever names an address could name that of a third party. So each part is limited by relay, by address and in sum: [`requests`]
//! decides which relay to ask for which address, [`introductions`] what we do as a relay, and [`dials`] whether we dial an address
//! that a relay names.

pub mod allowance;
pub mod dials;
pub mod introductions;
pub mod requests;

pub use allowance::Allowance;
pub use dials::{PunchDials, PunchRequest};
pub use introductions::{IntroduciblePeer, IntroductionVerdict, Introductions};
pub use requests::PunchRequests;

use crate::types::PeerKey;

/// Ports below this belong to well-known services. No hole is punched to them.
pub const FIRST_PUNCHED_PORT: u16 = 1024;

/// Everything that a torrent remembers for hole punching.
#[derive(Debug, Default)]
pub struct HolePunch {
    /// Our requests to relays.
    pub requests: PunchRequests,
    /// What we did as a relay.
    pub introductions: Introductions,
    /// The addresses that we dial at the word of relays.
    pub dials: PunchDials,
}

impl HolePunch {
    /// The connection has ended.
    pub fn disconnected(&mut self, key: PeerKey) {
        self.requests.disconnected(key);
        self.introductions.disconnected(key);
        self.dials.disconnected(key);
    }
}
