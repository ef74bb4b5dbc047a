//! Binding of sockets, networks of IP addresses, block lists, proxies, network interfaces, and TCP statistics.

pub mod address_filter;
pub mod bind;
pub mod block_list;
pub mod gateway;
pub mod interfaces;
pub mod networks;
#[allow(dead_code, reason = "nothing connects through a proxy yet")]
pub mod proxy;
pub mod tcp_diag;
