//! Bytes ↔ values, nothing else: the handshake, the messages of BEP 3, the extension handshake of BEP 10, and message stream
//! encryption.
//! No socket, no allocation by a length that a stranger claims; what is parsed borrows from the bytes it lies in.

pub mod extension;
pub mod handshake;
pub mod message;
pub mod mse;

pub use extension::ExtensionHandshake;
pub use handshake::Handshake;
pub use message::{Message, WireError};
