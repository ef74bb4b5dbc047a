//! A service for many torrents, whose users control it over HTTP: with the page in their browser, or with a program that speaks
//! Transmission's RPC.

#![allow(dead_code, reason = "the faces of the service are still being built")]

pub mod model;
pub mod rpc;
pub mod settings;
