//! The handshake of the extension protocol (BEP 10), both the peer's and ours. A peer may repeat it to update a value, for
//! example to say that it wants nothing more (`upload_only`, BEP 21).

use std::net::IpAddr;

use crate::bencode::encode;
use crate::bencode::values::{Dict, bytes, int, nested, small_dictionary};
use crate::metainfo::torrent::TORRENT_FILE_MAX;
use crate::types::PieceIndex;

/// The message id of the extension handshake itself.
pub const HANDSHAKE_ID: u8 = 0;

/// The message id under which peers send us metadata messages (BEP 9).
pub const OUR_METADATA_ID: u8 = 2;
/// The message id under which peers send us peer exchange messages (BEP 11).
pub const OUR_PEX_ID: u8 = 1;
/// The message id under which peers update their `upload_only` state (libtorrent's extension).
pub const OUR_UPLOAD_ONLY_ID: u8 = 3;

/// The message id under which peers tell us that they have lost a piece (BEP 54).
pub const OUR_DONT_HAVE_ID: u8 = 4;

/// The message id under which peers send us holepunch messages (BEP 55).
pub const OUR_HOLEPUNCH_ID: u8 = 5;

/// The most requests that we queue for one peer, announced as `reqq`. Further requests are dropped or rejected.
pub const OUR_REQUEST_QUEUE: u32 = 2000;

/// The longest client version that we keep, in characters.
const MAX_VERSION: usize = 80;
/// The most values in a handshake that we parse; real clients send about twenty.
const MAX_VALUES: usize = 256;

/// A peer's extension handshake. A field is `None` if the peer did not send it or sent an invalid value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExtensionHandshake {
    /// How many requests the peer queues at most.
    pub reqq: Option<u32>,
    /// The client's name and version, unfiltered except for length; not safe to print to a terminal.
    pub version: Option<String>,
    /// The TCP port the peer listens on.
    pub port: Option<u16>,
    /// Our address as the peer sees it.
    pub your_ip: Option<IpAddr>,
    /// Whether the peer wants nothing more (BEP 21).
    pub is_upload_only: Option<bool>,
    /// The length of the info dictionary in bytes (BEP 9), never more than [`TORRENT_FILE_MAX`].
    pub metadata_size: Option<u32>,
    /// The extension messages that the peer supports, with the ids it assigned to them.
    pub messages: MessageIds,
}

/// The message ids that a peer assigned to the extensions we use; `None` if the handshake does not mention the message, 0 if the
/// peer disabled it. A later handshake changes only the messages that it mentions (BEP 10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageIds {
    /// Metadata exchange (BEP 9).
    pub ut_metadata: Option<u8>,
    /// Peer exchange (BEP 11).
    pub ut_pex: Option<u8>,
    /// Updates of `upload_only`; see [`OUR_UPLOAD_ONLY_ID`].
    pub upload_only: Option<u8>,
    /// Hole punching (BEP 55).
    pub ut_holepunch: Option<u8>,
}

/// The extension handshake that we send.
#[derive(Clone, Copy, Debug)]
pub struct OurExtensionHandshake<'a> {
    /// The TCP port we listen on; 0 if we do not listen or do not tell.
    pub port: u16,
    /// The peer's address as we see it, if we tell.
    pub your_ip: Option<IpAddr>,
    /// Whether we want nothing more.
    pub is_upload_only: bool,
    /// The length of the info dictionary in bytes; 0 while unknown.
    pub metadata_size: u32,
    /// Whether we support peer exchange.
    pub supports_pex: bool,
    /// Whether we support hole punching.
    pub supports_hole_punch: bool,
    /// Our client's name and version, if we tell.
    pub client: Option<&'a str>,
}

impl OurExtensionHandshake<'_> {
    /// Encodes the payload of the extension message.
    pub fn encode(&self) -> Vec<u8> {
        // Bencode requires sorted keys.
        let mut out =
            format!("d1:md11:lt_donthavei{OUR_DONT_HAVE_ID}e11:upload_onlyi{OUR_UPLOAD_ONLY_ID}e").into_bytes();
        if self.supports_hole_punch {
            out.extend_from_slice(format!("12:ut_holepunchi{OUR_HOLEPUNCH_ID}e").as_bytes());
        }
        out.extend_from_slice(format!("11:ut_metadatai{OUR_METADATA_ID}e").as_bytes());
        if self.supports_pex {
            out.extend_from_slice(format!("6:ut_pexi{OUR_PEX_ID}e").as_bytes());
        }
        out.push(b'e');
        if self.metadata_size > 0 {
            out.extend_from_slice(format!("13:metadata_sizei{}e", self.metadata_size).as_bytes());
        }
        if self.port > 0 {
            out.extend_from_slice(format!("1:pi{}e", self.port).as_bytes());
        }
        let upload_only = u8::from(self.is_upload_only);
        out.extend_from_slice(format!("4:reqqi{OUR_REQUEST_QUEUE}e11:upload_onlyi{upload_only}e").as_bytes());
        if let Some(client) = self.client {
            encode::bytes(&mut out, b"v");
            encode::bytes(&mut out, client.as_bytes());
        }
        if let Some(ip) = self.your_ip {
            encode::bytes(&mut out, b"yourip");
            match ip.to_canonical() {
                IpAddr::V4(ip) => encode::bytes(&mut out, &ip.octets()),
                IpAddr::V6(ip) => encode::bytes(&mut out, &ip.octets()),
            }
        }
        out.push(b'e');
        out
    }
}

impl ExtensionHandshake {
    /// Parses a peer's handshake. Returns `None` if it is not a dictionary or has far more values than any client sends; the
    /// connection survives this. An invalid or mistyped value counts as absent and does not affect the others.
    pub fn parse(payload: &[u8]) -> Option<ExtensionHandshake> {
        let said = small_dictionary(payload, MAX_VALUES).ok().flatten()?;
        let number = |key| int(&said, key).and_then(|n| u32::try_from(n).ok()).filter(|&n| n > 0);
        let version = |v: &[u8]| String::from_utf8_lossy(v).chars().take(MAX_VERSION).collect();
        Some(ExtensionHandshake {
            reqq: number("reqq"),
            version: bytes(&said, "v").map(version),
            port: number("p").and_then(|p| u16::try_from(p).ok()),
            your_ip: bytes(&said, "yourip").and_then(address),
            is_upload_only: int(&said, "upload_only").map(|n| n != 0),
            metadata_size: number("metadata_size").filter(|&n| n as usize <= TORRENT_FILE_MAX),
            messages: nested(&said, "m").map_or_else(MessageIds::default, MessageIds::read),
        })
    }
}

impl MessageIds {
    fn read(names: &Dict) -> MessageIds {
        let id = |name| int(names, name).and_then(|id| u8::try_from(id).ok());
        MessageIds {
            ut_metadata: id("ut_metadata"),
            ut_pex: id("ut_pex"),
            upload_only: id("upload_only"),
            ut_holepunch: id("ut_holepunch"),
        }
    }
}

/// The piece that the payload of `lt_donthave` names (BEP 54); `None` if it is malformed.
pub fn parse_dont_have(payload: &[u8]) -> Option<PieceIndex> {
    <[u8; 4]>::try_from(payload).ok().map(|piece| PieceIndex(u32::from_be_bytes(piece)))
}

/// Parses an address of four or sixteen bytes, and refuses those that cannot be ours: unspecified, loopback and multicast.
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
        let ours = OurExtensionHandshake {
            port: 6881,
            your_ip: Some(your_ip),
            is_upload_only: true,
            metadata_size: 777,
            supports_pex: true,
            supports_hole_punch: true,
            client: Some("me 1"),
        };
        let said = ExtensionHandshake::parse(&ours.encode()).unwrap();
        assert_eq!((said.reqq, said.port), (Some(OUR_REQUEST_QUEUE), Some(6881)));
        let (ut_metadata, ut_pex, upload_only) = (Some(OUR_METADATA_ID), Some(OUR_PEX_ID), Some(OUR_UPLOAD_ONLY_ID));
        let ut_holepunch = Some(OUR_HOLEPUNCH_ID);
        assert_eq!(said.messages, MessageIds { ut_metadata, ut_pex, upload_only, ut_holepunch });
        assert_eq!((said.is_upload_only, said.metadata_size, said.your_ip), (Some(true), Some(777), Some(your_ip)));
        assert!(said.version.as_deref() == Some("me 1"));
        let six = IpAddr::from([0x2a00, 1, 0, 0, 0, 0, 0, 1].map(|n: u16| n));
        let ours = OurExtensionHandshake {
            port: 0,
            your_ip: Some(six),
            is_upload_only: false,
            metadata_size: 0,
            supports_pex: false,
            supports_hole_punch: false,
            client: Some("me 1"),
        };
        let said = ExtensionHandshake::parse(&ours.encode()).unwrap();
        assert_eq!((said.port, said.is_upload_only, said.metadata_size), (None, Some(false), None));
        assert_eq!((said.your_ip, said.messages.ut_pex, said.messages.ut_holepunch), (Some(six), None, None));
        let ours = OurExtensionHandshake { your_ip: None, client: None, ..ours };
        let said = ExtensionHandshake::parse(&ours.encode()).unwrap();
        assert_eq!((said.your_ip, said.version, said.reqq), (None, None, Some(OUR_REQUEST_QUEUE)));
    }

    #[test]
    fn others_are_read_and_nonsense_is_passed_over() {
        let said =
            ExtensionHandshake::parse(b"d1:md11:ut_metadatai3e6:ut_pexi256ee4:reqqi250e1:v4:\xff\xfeabe").unwrap();
        assert_eq!((said.reqq, said.is_upload_only), (Some(250), None));
        assert_eq!(said.messages, MessageIds { ut_metadata: Some(3), ..MessageIds::default() });
        assert_eq!(ExtensionHandshake::parse(b"d1:mde4:reqqi-5ee").unwrap().reqq, None);
        assert_eq!(ExtensionHandshake::parse(b"i3e"), None);
        let ids = |count: usize| (0..count).map(|n| format!("3:{n:03x}i1e")).collect::<Vec<_>>().concat();
        assert!(ExtensionHandshake::parse(format!("d1:md{}ee", ids(200)).as_bytes()).is_some());
        assert_eq!(ExtensionHandshake::parse(format!("d1:md{}ee", ids(4096)).as_bytes()), None);
        assert_eq!(ExtensionHandshake::parse(&b"l".repeat(60_000)), None);
    }

    type Lose = fn(&mut ExtensionHandshake);

    /// Replaces each value in turn by a list; all other values must still be parsed.
    #[test]
    fn a_mistyped_value_loses_only_itself() {
        let ours = OurExtensionHandshake {
            port: 6881,
            your_ip: Some([80, 4, 4, 200].into()),
            is_upload_only: true,
            metadata_size: 777,
            supports_pex: true,
            supports_hole_punch: true,
            client: Some("me 1"),
        };
        let whole = ExtensionHandshake::parse(&ours.encode()).unwrap();
        let values: [(&[u8], Lose); 10] = [
            (b"4:reqqi2000e", |said| said.reqq = None),
            (b"1:pi6881e", |said| said.port = None),
            (b"6:yourip4:\x50\x04\x04\xc8", |said| said.your_ip = None),
            (b"e11:upload_onlyi1e", |said| said.is_upload_only = None),
            (b"13:metadata_sizei777e", |said| said.metadata_size = None),
            (b"11:upload_onlyi3e", |said| said.messages.upload_only = None),
            (b"12:ut_holepunchi5e", |said| said.messages.ut_holepunch = None),
            (b"11:ut_metadatai2e", |said| said.messages.ut_metadata = None),
            (b"6:ut_pexi1e", |said| said.messages.ut_pex = None),
            (b"1:md11:lt_donthavei4e11:upload_onlyi3e12:ut_holepunchi5e11:ut_metadatai2e6:ut_pexi1ee", |said| {
                said.messages = MessageIds::default();
            }),
        ];
        for (entry, lose) in values {
            let sent = ours.encode();
            let at = sent.windows(entry.len()).position(|window| window == entry).expect("an entry of ours");
            // Keeps the key and replaces the value by a list.
            let key = entry.iter().position(|&b| b == b':').expect("a key");
            let start = entry.iter().position(u8::is_ascii_digit).expect("a length");
            let length: usize = std::str::from_utf8(&entry[start..key]).unwrap().parse().unwrap();
            let changed = [&sent[..at + key + 1 + length], b"li9e2:xxe".as_slice(), &sent[at + entry.len()..]].concat();
            let mut expected = whole.clone();
            lose(&mut expected);
            assert_eq!(ExtensionHandshake::parse(&changed), Some(expected), "{}", String::from_utf8_lossy(entry));
        }
    }

    #[test]
    fn a_lost_piece_takes_four_bytes() {
        assert_eq!(parse_dont_have(&[0, 0, 1, 2]), Some(PieceIndex(258)));
        assert!([&b""[..], b"123", b"12345"].iter().all(|payload| parse_dont_have(payload).is_none()));
    }

    #[test]
    fn a_message_that_is_switched_off_is_told_from_one_that_is_not_mentioned() {
        let said = ExtensionHandshake::parse(b"d1:md6:ut_pexi0eee").unwrap();
        assert_eq!(said.messages, MessageIds { ut_pex: Some(0), ..MessageIds::default() });
    }

    #[test]
    fn impossible_values_are_ignored() {
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
