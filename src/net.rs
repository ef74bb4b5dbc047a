//! What sockets are bound to, which networks addresses belong to, the interfaces of this machine.

pub mod bind;
pub mod interfaces;
pub mod networks;
pub mod tcp_diag;
