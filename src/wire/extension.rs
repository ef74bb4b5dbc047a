//! The handshake of the extension protocol (BEP 10). Of what a peer says there only its request queue and its name are
//! of use so far; we say the same of us.

use serde::Deserialize;
use serde_bytes::ByteBuf;

use crate::metainfo::raw;

/// The id of the extension handshake itself.
pub const HANDSHAKE_ID: u8 = 0;

/// How many requests we hold for one peer at most; stated as `reqq`, and more are dropped.
pub const OUR_REQUEST_QUEUE: u32 = 2000;

/// What a peer says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtensionHandshake {
    /// How many requests it holds at most.
    pub reqq: Option<u32>,
    /// Its client's name and version, as it sent them: not for a terminal as it stands.
    pub version: Option<String>,
    /// The TCP port it listens on.
    pub port: Option<u16>,
}

#[derive(Deserialize)]
struct Dictionary {
    #[serde(default)]
    p: Option<i64>,
    #[serde(default)]
    reqq: Option<i64>,
    #[serde(default)]
    v: Option<ByteBuf>,
}

impl ExtensionHandshake {
    /// What we say, as the payload of an extension message.
    pub fn ours(port: u16) -> Vec<u8> {
        let version = concat!("btsync ", env!("CARGO_PKG_VERSION"));
        let port = if port == 0 { String::new() } else { format!("1:pi{port}e") };
        let length = version.len();
        format!("d1:mde{port}4:reqqi{OUR_REQUEST_QUEUE}e1:v{length}:{version}e").into_bytes()
    }

    /// Reads a peer's; `None` where it is no such dictionary, which costs the peer nothing.
    pub fn parse(payload: &[u8]) -> Option<ExtensionHandshake> {
        raw::check(payload).ok()?;
        let said: Dictionary = serde_bencode::from_bytes(payload).ok()?;
        Some(ExtensionHandshake {
            reqq: said.reqq.and_then(|n| u32::try_from(n).ok()).filter(|&n| n > 0),
            version: said.v.map(|v| String::from_utf8_lossy(&v).into_owned()),
            port: said.p.and_then(|p| u16::try_from(p).ok()).filter(|&p| p > 0),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_understood() {
        let said = ExtensionHandshake::parse(&ExtensionHandshake::ours(6881)).unwrap();
        assert_eq!((said.reqq, said.port), (Some(OUR_REQUEST_QUEUE), Some(6881)));
    }

    #[test]
    fn others_are_read_and_nonsense_is_passed_over() {
        let said = ExtensionHandshake::parse(b"d1:md11:ut_metadatai3ee4:reqqi250e1:v4:\xff\xfeabe").unwrap();
        assert_eq!(said.reqq, Some(250));
        assert_eq!(ExtensionHandshake::parse(b"d1:mde4:reqqi-5ee").unwrap().reqq, None);
        assert_eq!(ExtensionHandshake::parse(b"i3e"), None);
        assert_eq!(ExtensionHandshake::parse(&b"l".repeat(60_000)), None);
    }
}
