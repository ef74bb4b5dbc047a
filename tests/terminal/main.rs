//! Tests of the live view and of terminal output.

#[path = "../common/mod.rs"]
mod common;

mod live_view;
mod pty;
