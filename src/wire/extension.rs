//! The handshake of the extension protocol (BEP 10): what a peer says of itself, and what we say. It may be repeated, and then
//! says what has changed, such as that nothing more is wanted (`upload_only`, BEP 21).

use std::net::IpAddr;

use serde::Deserialize;
use serde_bytes::ByteBuf;

use crate::metainfo::raw;
use crate::metainfo::torrent::FILE_MAX;

/// The id of the extension handshake itself.
pub const HANDSHAKE_ID: u8 = 0;

/// The id under which peers send us metadata messages (BEP 9).
pub const OUR_METADATA: u8 = 2;
/// The id under which peers send us peer exchange messages (BEP 11).
pub const OUR_PEX: u8 = 1;

/// How many requests we hold for one peer at most; stated as `reqq`, and more are dropped or rejected.
pub const OUR_REQUEST_QUEUE: u32 = 2000;

/// What is kept of a client's name and version, in characters.
const MAX_VERSION: usize = 80;

/// What a peer says of itself; `None` for what it does not say, or says in a way that makes no sense.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtensionHandshake {
    /// How many requests it holds at most.
    pub reqq: Option<u32>,
    /// Its client's name and version, as it sent them but for their length: not for a terminal as it stands.
    pub version: Option<String>,
    /// The TCP port it listens on.
    pub port: Option<u16>,
    /// Our address as it sees it.
    pub your_ip: Option<IpAddr>,
    /// Whether it wants nothing more (BEP 21).
    pub upload_only: Option<bool>,
    /// The length of the info dictionary in bytes (BEP 9); never more than a torrent file may have.
    pub metadata_size: Option<u32>,
    /// The messages that it knows, by the ids that it wants to see.
    pub messages: Messages,
}

/// Messages of the extension protocol that have a use here, and the ids that a peer gave them; `None` where it knows no such
/// message, or no longer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Messages {
    /// Metadata from peers (BEP 9).
    pub ut_metadata: Option<u8>,
    /// Peer exchange (BEP 11).
    pub ut_pex: Option<u8>,
}

/// What we say of ourselves.
#[derive(Clone, Copy, Debug)]
pub struct Ours {
    /// The TCP port we listen on, 0 while none.
    pub port: u16,
    /// Where we see the peer.
    pub your_ip: IpAddr,
    /// Whether we want nothing more.
    pub upload_only: bool,
    /// The length of the info dictionary in bytes, 0 while it is not known.
    pub metadata_size: u32,
    /// Whether we take part in peer exchange.
    pub pex: bool,
}

impl Ours {
    /// The payload of the extension message.
    pub fn encode(&self) -> Vec<u8> {
        // Keys in order, as bencode wants them.
        let mut out = format!("d1:md11:ut_metadatai{OUR_METADATA}e").into_bytes();
        if self.pex {
            out.extend_from_slice(format!("6:ut_pexi{OUR_PEX}e").as_bytes());
        }
        out.push(b'e');
        if self.metadata_size > 0 {
            out.extend_from_slice(format!("13:metadata_sizei{}e", self.metadata_size).as_bytes());
        }
        if self.port > 0 {
            out.extend_from_slice(format!("1:pi{}e", self.port).as_bytes());
        }
        let version = concat!("btsync ", env!("CARGO_PKG_VERSION"));
        let upload_only = u8::from(self.upload_only);
        out.extend_from_slice(format!("4:reqqi{OUR_REQUEST_QUEUE}e11:upload_onlyi{upload_only}e").as_bytes());
        out.extend_from_slice(format!("1:v{}:{version}", version.len()).as_bytes());
        match self.your_ip.to_canonical() {
            IpAddr::V4(ip) => out.extend_from_slice(&[b"6:yourip4:".as_slice(), &ip.octets()].concat()),
            IpAddr::V6(ip) => out.extend_from_slice(&[b"6:yourip16:".as_slice(), &ip.octets()].concat()),
        }
        out.push(b'e');
        out
    }
}

#[derive(Deserialize)]
struct Dictionary {
    #[serde(default)]
    m: Option<Names>,
    #[serde(default)]
    metadata_size: Option<i64>,
    #[serde(default)]
    p: Option<i64>,
    #[serde(default)]
    reqq: Option<i64>,
    #[serde(default)]
    upload_only: Option<i64>,
    #[serde(default)]
    v: Option<ByteBuf>,
    #[serde(default)]
    yourip: Option<ByteBuf>,
}

#[derive(Deserialize)]
struct Names {
    #[serde(default)]
    ut_metadata: Option<i64>,
    #[serde(default)]
    ut_pex: Option<i64>,
}

impl ExtensionHandshake {
    /// Reads a peer's; `None` where it is no such dictionary, which costs the peer nothing.
    pub fn parse(payload: &[u8]) -> Option<ExtensionHandshake> {
        raw::check(payload).ok()?;
        let said: Dictionary = serde_bencode::from_bytes(payload).ok()?;
        let id = |id: Option<i64>| id.and_then(|id| u8::try_from(id).ok()).filter(|&id| id != HANDSHAKE_ID);
        let version = |v: ByteBuf| String::from_utf8_lossy(&v).chars().take(MAX_VERSION).collect();
        Some(ExtensionHandshake {
            reqq: said.reqq.and_then(|n| u32::try_from(n).ok()).filter(|&n| n > 0),
            version: said.v.map(version),
            port: said.p.and_then(|p| u16::try_from(p).ok()).filter(|&p| p > 0),
            your_ip: said.yourip.and_then(|bytes| address(&bytes)),
            upload_only: said.upload_only.map(|n| n != 0),
            metadata_size: said
                .metadata_size
                .and_then(|n| u32::try_from(n).ok())
                .filter(|&n| n > 0 && n as usize <= FILE_MAX),
            messages: said.m.map_or_else(Messages::default, |names| Messages {
                ut_metadata: id(names.ut_metadata),
                ut_pex: id(names.ut_pex),
            }),
        })
    }
}

/// An address of four or sixteen bytes that could be somebody's.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    let v4 = || <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from);
    let v6 = || <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from);
    let ip = v4().or_else(v6)?.to_canonical();
    (!ip.is_unspecified() && !ip.is_loopback() && !ip.is_multicast()).then_some(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ours_is_understood() {
        let your_ip = IpAddr::from([80, 4, 4, 200]);
        let ours = Ours { port: 6881, your_ip, upload_only: true, metadata_size: 777, pex: true };
        let said = ExtensionHandshake::parse(&ours.encode()).unwrap();
        assert_eq!((said.reqq, said.port), (Some(OUR_REQUEST_QUEUE), Some(6881)));
        assert_eq!(said.messages, Messages { ut_metadata: Some(OUR_METADATA), ut_pex: Some(OUR_PEX) });
        assert_eq!((said.upload_only, said.metadata_size, said.your_ip), (Some(true), Some(777), Some(your_ip)));
        assert!(said.version.is_some_and(|v| v.starts_with("btsync ")));
        let six = IpAddr::from([0x2a00, 1, 0, 0, 0, 0, 0, 1].map(|n: u16| n));
        let ours = Ours { port: 0, your_ip: six, upload_only: false, metadata_size: 0, pex: false };
        let said = ExtensionHandshake::parse(&ours.encode()).unwrap();
        assert_eq!((said.port, said.upload_only, said.metadata_size), (None, Some(false), None));
        assert_eq!((said.your_ip, said.messages.ut_pex), (Some(six), None));
    }

    #[test]
    fn others_are_read_and_nonsense_is_passed_over() {
        let said =
            ExtensionHandshake::parse(b"d1:md11:ut_metadatai3e6:ut_pexi256ee4:reqqi250e1:v4:\xff\xfeabe").unwrap();
        assert_eq!((said.reqq, said.upload_only), (Some(250), None));
        assert_eq!(said.messages, Messages { ut_metadata: Some(3), ut_pex: None });
        assert_eq!(ExtensionHandshake::parse(b"d1:mde4:reqqi-5ee").unwrap().reqq, None);
        assert_eq!(ExtensionHandshake::parse(b"i3e"), None);
        assert_eq!(ExtensionHandshake::parse(&b"l".repeat(60_000)), None);
    }

    #[test]
    fn what_could_not_be_is_not_believed() {
        for (bytes, why) in [
            (&b"d6:yourip4:\x7f\0\0\x01e"[..], "loopback"),
            (b"d6:yourip5:\x01\x02\x03\x04\x05e", "five bytes"),
            (b"d6:yourip4:\0\0\0\0e", "nowhere"),
            (b"d13:metadata_sizei99999999999ee", "100 GB of metadata"),
            (b"d13:metadata_sizei33554433ee", "a byte more than a torrent file may have"),
            (b"d13:metadata_sizei-1ee", "less than none"),
            (b"d1:pi70000ee", "no such port"),
        ] {
            assert_eq!(ExtensionHandshake::parse(bytes), Some(ExtensionHandshake::default()), "{why}");
        }
        let long = [b"d1:v60000:".as_slice(), &b"x".repeat(60_000), b"e"].concat();
        assert_eq!(ExtensionHandshake::parse(&long).unwrap().version.unwrap().len(), MAX_VERSION);
    }
}
