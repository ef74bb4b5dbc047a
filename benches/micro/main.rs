//! Micro-benchmarks of what every block or piece passes through: the codec, the picker, hashing and writing, the recheck.
//!
//! `cargo bench --bench micro -- picker` runs those whose name holds "picker". Nothing here is a test: what is measured is
//! tested beside its code.

mod codec;
mod hashing;
mod picker;
mod recheck;

fn main() {
    divan::main();
}
