//! Micro-benchmarks of the code that every block or piece passes through: the codec, the picker, hashing and writing, block lists, the
//! recheck.
//!
//! `cargo bench --bench micro -- picker` runs those whose names contain "picker". None of these is a test; the measured code is
//! tested in its own module.

mod block_list;
mod codec;
mod hashing;
mod picker;
mod recheck;

fn main() {
    divan::main();
}
