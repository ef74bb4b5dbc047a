//! Tests of parsers: torrents from other programs, odd and malformed torrents, and the seeds of the fuzz targets.

#[path = "../common/mod.rs"]
mod common;
#[path = "../fuzz/mod.rs"]
mod fuzz;

mod fuzz_seeds;
mod malformed_torrents;
mod odd_torrents;
mod testdata;
