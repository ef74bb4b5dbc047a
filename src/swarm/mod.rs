//! Decisions without I/O, locks or clocks: which block to ask of whom, how deep to ask, whom to unchoke.
//!
//! Time comes in as a [`std::time::Duration`] since some start that the caller keeps, randomness through a seed, so that a
//! simulation can drive every rule here. The [`picker`] is shared by all peers and stands under one short lock; [`requests`]
//! belongs to one connection; [`choker`] to the loop that runs its rounds, and so does [`quality`], which says whom to call and
//! whom to drop; the [`limiter`] is asked by all who send or receive; [`rate`] measures for all of them. [`allowed`] names
//! the pieces that a newcomer gets for nothing, [`blame`] finds who sent a wrong block, [`superseed`] what a first seeder
//! shows to whom. [`metadata`] fetches the info dictionary for a magnet link, [`pex`] decides what peers are told of each
//! other.

pub mod allowed;
pub mod blame;
pub mod choker;
pub mod drain;
pub mod limiter;
pub mod metadata;
pub mod pex;
pub mod picker;
pub mod quality;
pub mod rate;
pub mod requests;
pub mod send_schedule;
pub mod superseed;
pub mod traffic;
pub mod window;

pub use blame::Blame;
pub use choker::{Candidate, Choker};
pub use limiter::{Direction, Grant, Limiter, Limits};
pub use picker::{Accept, Picker, Plan, Progress, Verdict};
pub use rate::Rate;
pub use requests::Requests;
pub use superseed::SuperSeed;
pub use traffic::Traffic;
