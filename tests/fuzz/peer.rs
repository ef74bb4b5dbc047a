//! The messages of a connected peer.

use btsync::types::Bitfield;
use btsync::wire::handshake::LENGTH;
use btsync::wire::holepunch::HolePunchMessage;
use btsync::wire::message::{self, Message, WireError};
use btsync::wire::{ExtensionHandshake, Handshake, MetadataMessage, PexMessage};

/// A handshake and frames, delivered in random parts: byte 0 seeds the division, the rest is the stream. The result must be the
/// same as for the undivided stream.
pub fn messages(bytes: &[u8]) -> bool {
    let Some((&seed, stream)) = bytes.split_first() else { return false };
    let handshake = stream.first_chunk::<LENGTH>().and_then(Handshake::decode);
    if let Some(handshake) = &handshake {
        let again = Handshake::decode(&handshake.encode()).expect("we read what we write");
        assert_eq!((again.info_hash, again.peer_id), (handshake.info_hash, handshake.peer_id));
        assert_eq!(again.supports_fast(), handshake.supports_fast());
    }
    let whole = frames(std::iter::once(stream));
    let mut rng = fastrand::Rng::with_seed(seed.into());
    let mut rest = stream;
    let cuts = std::iter::from_fn(|| {
        let (part, after) = rest.split_at_checked(rng.usize(1..=40).min(rest.len()))?;
        rest = after;
        (!part.is_empty()).then_some(part)
    });
    assert_eq!(frames(cuts), whole);
    handshake.is_some() || whole.1.is_none() && !whole.0.is_empty()
}

/// Parses and checks the frames of a stream that is given in parts. Returns their lengths and ids, and the error that ended it.
fn frames<'a>(parts: impl Iterator<Item = &'a [u8]>) -> (Vec<(usize, u8)>, Option<WireError>) {
    let (mut pending, mut seen) = (Vec::new(), Vec::new());
    for part in parts {
        pending.extend_from_slice(part);
        let mut at = 0;
        loop {
            match message::parse(&pending[at..]) {
                Ok(Some((message, length))) => {
                    let frame = &pending[at..at + length];
                    assert_eq!(message::frame_length(frame), length);
                    check(&message, frame);
                    seen.push((length, frame.get(4).copied().unwrap_or(u8::MAX)));
                    at += length;
                }
                Ok(None) => {
                    assert!(
                        message::frame_length(&pending[at..]) > pending.len() - at,
                        "a whole message was left unread"
                    );
                    break;
                }
                Err(error) => return (seen, Some(error)),
            }
        }
        pending.drain(..at);
    }
    (seen, None)
}

/// Checks that a message we can encode is encoded as it was received, and that a bitfield is consistent.
fn check(message: &Message<'_>, frame: &[u8]) {
    let mut out = Vec::new();
    match *message {
        Message::KeepAlive => message::write_keep_alive(&mut out),
        Message::Choke => message::write_choke(&mut out, true),
        Message::Unchoke => message::write_choke(&mut out, false),
        Message::Interested => message::write_interested(&mut out, true),
        Message::NotInterested => message::write_interested(&mut out, false),
        Message::Have(piece) => message::write_have(&mut out, piece),
        Message::Bitfield(bits) => {
            message::write_bitfield(&mut out, bits);
            let pieces = (bits.len() as u32 * 8).saturating_sub(3);
            if let Some(field) = Bitfield::from_wire(bits, pieces) {
                assert_eq!(field.iter().count(), field.count() as usize);
                assert!(field.iter().all(|piece| piece.0 < pieces && field.has(piece)));
            }
        }
        Message::Request(block) => message::write_request(&mut out, block),
        Message::Piece(block, data) => {
            assert_eq!(block.length as usize, data.len());
            out.extend_from_slice(&message::piece_header(block));
            out.extend_from_slice(data);
        }
        Message::Cancel(block) => message::write_cancel(&mut out, block),
        Message::Port(port) => message::write_port(&mut out, port),
        Message::HaveAll => message::write_have_all_or_none(&mut out, true),
        Message::HaveNone => message::write_have_all_or_none(&mut out, false),
        Message::Reject(block) => message::write_reject(&mut out, block),
        Message::AllowedFast(piece) => message::write_allowed_fast(&mut out, piece),
        Message::Extended(id, payload) => message::write_extended(&mut out, id, payload),
        Message::Suggest(_) | Message::Unknown(_) => return,
    }
    assert_eq!(out, frame);
}

/// The payloads of extension messages: handshake (BEP 10), metadata (BEP 9), peer exchange (BEP 11), hole punching (BEP 55).
/// Accepted messages other than handshakes must survive encoding.
pub fn extension(bytes: &[u8]) -> bool {
    let mut accepted = false;
    if let Some(said) = ExtensionHandshake::parse(bytes) {
        accepted = true;
        assert!(said.version.is_none_or(|version| version.chars().count() <= 80));
        assert!(said.port != Some(0) && said.reqq != Some(0));
        assert!(said.metadata_size != Some(0));
    }
    if let Ok(Some(message)) = MetadataMessage::parse(bytes) {
        assert_eq!(MetadataMessage::parse(&message.encode()), Ok(Some(message)));
        accepted = true;
    }
    if let Ok(message) = PexMessage::parse(bytes) {
        assert_eq!(PexMessage::parse(&message.encode()), Ok(message));
        accepted = true;
    }
    if let Ok(message) = HolePunchMessage::parse(bytes) {
        assert_eq!(HolePunchMessage::parse(&message.encode()), Ok(message));
        accepted = true;
    }
    accepted
}
