//! Transmission's remote control: a request in JSON in, a response in JSON out. `web.rs` has the HTTP around it.
//!
//! Both dialects are here: that of Transmission 4.0.6 and before (`method`, `arguments`, `tag`, names in camelCase and
//! kebab-case), and JSON-RPC 2.0 with names in `snake_case`, as Transmission 4.1 speaks it. `docs/rpc.md` lists every method and field.

mod call;
mod envelope;
mod error;
mod json;
pub mod memory;
mod methods;
mod params;
mod selection;
mod session;
pub mod session_id;
mod torrent;
pub mod torrents_event;
mod tracker_list;

#[cfg(test)]
mod tests;

use crate::service::model::{Control, UnixTime};
use memory::ResponseMemory;

/// What `version` says. Clients take Transmission's version from its first number, and refuse old ones.
pub const VERSION: &str = concat!("4.1.0 (btsync ", env!("CARGO_PKG_VERSION"), ")");
/// The version of the protocol that Transmission 4.1.0 has, also for the HTTP header `X-Transmission-Rpc-Version`.
pub const RPC_VERSION_SEMVER: &str = "6.0.0";
/// The same by the older numbering.
const RPC_VERSION: u32 = 18;
/// The oldest version whose clients are understood.
const RPC_VERSION_MINIMUM: u32 = 14;

/// How a request names things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// Transmission 4.0.6 and before.
    Legacy,
    /// JSON-RPC 2.0, Transmission 4.1.
    JsonRpc,
}

/// The answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RpcResponse {
    /// JSON, for a response with status 200.
    Json(Vec<u8>),
    /// Nothing, for a response with status 204: the request held only notifications.
    NoContent,
}

/// Carries out a request. `session_id` is that of the HTTP header, which clients may ask for here too. All responses that are being
/// written share `memory`.
pub fn respond(body: &[u8], control: &dyn Control, session_id: &str, memory: &ResponseMemory) -> RpcResponse {
    envelope::respond(body, &Context { control, session_id, now: UnixTime::now() }, memory)
}

/// What methods work with.
struct Context<'a> {
    control: &'a dyn Control,
    session_id: &'a str,
    now: UnixTime,
}
