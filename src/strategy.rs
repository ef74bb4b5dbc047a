//! Decisions without I/O, locks or clocks: which block to ask of whom, how deep to ask, whom to unchoke.
//!
//! Time comes in as a [`std::time::Duration`] since some start that the caller keeps, randomness through a seed, so that a
//! simulation can drive every rule here. The [`picker`] is shared by all peers and stands under one short lock; `requests`
//! belongs to one connection; [`choker`] to the loop that runs its rounds, and so does [`quality`], which says whom to call and
//! whom to drop; the `limiter` is asked by all who send or receive; [`rate`] measures for all of them. `allowed` names
//! the pieces that a newcomer gets for nothing, `blame` finds who sent a wrong block, `superseed` what a first seeder
//! shows to whom. `metadata` fetches the info dictionary for a magnet link, [`pex`] decides what peers are told of each
//! other.

pub mod allowed_fast;
pub mod choker;
pub(crate) mod dial_rate;
pub(crate) mod eviction;
pub mod metadata_fetch;
pub(crate) mod peer_list;
pub mod pex;
pub mod picker;
pub mod pipeline;
pub mod quality;
pub mod rate;
pub mod rate_limiter;
pub mod send_schedule;
pub mod smart_ban;
pub mod super_seed;
pub mod traffic;
pub mod window;
pub mod write_batch;

pub use choker::{Candidate, Choker};
pub use picker::{Accept, Picker, PieceVerdict, Plan, Progress};
pub use pipeline::RequestPipeline;
pub use rate::Rate;
pub use rate_limiter::{Direction, Grant, Limits, RateLimiter};
pub use smart_ban::SmartBan;
pub use super_seed::SuperSeed;
pub use traffic::Traffic;
