//! The live view and the terminal.

#[path = "../common/mod.rs"]
mod common;

mod live_view;
mod pty;
