//! Two endpoints in a fake network with a fake clock.

mod attacks;
mod competitor;
mod congestion;
mod handshake;
mod network;
mod streams;
mod world;
