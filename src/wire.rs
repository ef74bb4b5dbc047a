//! Converts between bytes and values, and does nothing else: the handshake, the messages of BEP 3, the extension handshake of BEP
//! 10, the messages of metadata exchange, peer exchange and hole punching, compact addresses, and client names. This module opens
//! no socket and never allocates by a length that a peer claims. Parsed messages borrow from the received bytes.

pub mod client_name;
pub mod compact;
pub mod extension;
pub mod handshake;
pub mod holepunch;
pub mod message;
pub mod metadata;
pub mod pex;

pub use extension::ExtensionHandshake;
pub use handshake::Handshake;
pub use message::{Message, WireError};
pub use metadata::MetadataMessage;
pub use pex::PexMessage;
