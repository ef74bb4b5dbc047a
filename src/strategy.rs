//! Pure decisions, without I/O, locks or clocks: which blocks to request from which peer, whom to unchoke, dial or evict, how
//! fast to send.
//!
//! The caller passes the time as a [`std::time::Duration`] since a start of its choice, and seeds the randomness, so that
//! simulations can drive every rule. [`send_schedule`] takes an [`std::time::Instant`].
//!
//! * One per torrent, each under its own short lock: [`picker`], [`smart_ban`], [`super_seed`] and
//!   [`host_quota`].
//! * One per torrent, owned by its loop: [`choker`], [`quality`], [`hole_punch`], `peer_list`, `eviction` (also for pending
//!   handshakes) and [`metadata_fetch`].
//! * One per connection: [`pipeline`], [`pex`], [`window`], [`write_batch`], [`send_schedule`] and [`traffic`].
//! * One per web seed: [`web_seed`].
//! * One per client: [`rate_limiter`] and `dial_rate`.

pub mod allowed_fast;
pub mod choker;
pub(crate) mod dial_rate;
pub(crate) mod eviction;
pub mod fast_grants;
pub mod hole_punch;
pub mod host_quota;
pub mod metadata_fetch;
pub(crate) mod peer_list;
pub mod pex;
pub mod picker;
pub mod pipeline;
pub mod quality;
pub mod rate;
pub mod rate_limiter;
pub mod send_schedule;
pub mod slow_reader;
pub mod smart_ban;
pub mod super_seed;
pub mod traffic;
pub mod transport_race;
pub mod web_seed;
pub mod window;
pub mod write_batch;

pub use choker::{ChokeCandidate, Choker};
pub use host_quota::HostQuota;
pub use picker::{BlockVerdict, Picker, PieceVerdict, Plan};
pub use pipeline::RequestPipeline;
pub use rate::RateMeter;
pub use rate_limiter::{Direction, FlowId, Grant, Limits, RateLimiter};
pub use smart_ban::SmartBan;
pub use super_seed::SuperSeed;
pub use traffic::Traffic;
