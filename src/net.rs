//! Binding of sockets, datagrams that answer from the right address, host names, networks of IP addresses, block lists, proxies, network interfaces, and TCP statistics.

pub mod address_filter;
pub mod bind;
pub mod block_list;
pub mod datagrams;
pub mod gateway;
pub mod host_names;
pub mod interfaces;
pub mod link_figures;
pub mod networks;
pub mod proxy;
pub mod route;
pub mod tcp_diag;
