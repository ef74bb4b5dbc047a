//! Tests of rates: limits, slow peers and slow links. These tests measure time, so resource-intensive tests are in other
//! binaries.

#[path = "../common/mod.rs"]
mod common;

mod limits;
mod real_swarm;
mod slow_swarm;
