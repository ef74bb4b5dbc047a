//! Bytes ↔ values, nothing else: the handshake, the messages of BEP 3, the extension handshake of BEP 10 with the messages of
//! metadata exchange and peer exchange, compact addresses, and message stream encryption.
//! No socket, no allocation by a length that a stranger claims; what is parsed borrows from the bytes it lies in.

pub mod client_name;
pub mod compact;
pub mod extension;
pub mod handshake;
pub mod message;
pub mod metadata;
pub mod pex;

pub use extension::ExtensionHandshake;
pub use handshake::Handshake;
pub use message::{Message, WireError};
pub use metadata::MetadataMessage;
pub use pex::PexMessage;
