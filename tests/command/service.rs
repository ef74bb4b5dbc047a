//! `btsync serve`: its remote control with real clients, its page in a real browser, kills, and attacks. Each test runs in its own
//! network namespace.

mod clients;
mod content;
mod dormant;
mod kills;
mod load;
mod logs;
mod moves;
mod page;
mod passwords;
mod transports;
mod websites;
