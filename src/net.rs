//! Binding of sockets, networks of IP addresses, network interfaces, and TCP statistics.

pub mod bind;
pub mod interfaces;
pub mod networks;
pub mod tcp_diag;
