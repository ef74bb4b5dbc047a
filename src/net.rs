//! Binding of sockets, networks of IP addresses, block lists, network interfaces, and TCP statistics.

pub mod address_filter;
pub mod bind;
pub mod block_list;
pub mod gateway;
pub mod interfaces;
pub mod networks;
pub mod tcp_diag;
