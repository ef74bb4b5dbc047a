//! The messages of BEP 3 and of the fast extension (BEP 6): parsing them from a receive buffer, and encoding our own.

use crate::types::{BLOCK_SIZE, BlockInfo, PieceIndex};

/// The longest frame that we accept, in bytes without the length prefix: a bitfield of eight million pieces.
pub const MAX_FRAME: usize = 1 << 20;
/// The longest extension message (BEP 10) that we accept, in bytes; a block of metadata is 16 KiB (BEP 9).
pub const MAX_EXTENDED: usize = 64 * 1024;
/// The longest block that we serve, in bytes. Clients request 16 KiB today; old clients requested up to 128 KiB.
pub const MAX_REQUEST: u32 = 128 * 1024;
/// The length of a `piece` message's header, in bytes: length prefix, id, index, begin.
pub const PIECE_HEADER_LENGTH: usize = 13;

/// One message. Its variable-length part borrows from the buffer.
#[derive(Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Keeps the connection open and carries nothing.
    KeepAlive,
    /// The peer stops serving us.
    Choke,
    /// The peer serves our requests from now on.
    Unchoke,
    /// The peer wants a piece that we have.
    Interested,
    /// The peer wants none of our pieces.
    NotInterested,
    /// The peer now has this piece.
    Have(PieceIndex),
    /// All pieces that the peer has.
    Bitfield(&'a [u8]),
    /// The peer requests a block.
    Request(BlockInfo),
    /// The peer delivers a block.
    Piece(BlockInfo, &'a [u8]),
    /// The peer cancels a request.
    Cancel(BlockInfo),
    /// The peer runs a DHT node on this UDP port (BEP 5).
    Port(u16),
    /// The peer suggests that we request this piece first (BEP 6).
    Suggest(PieceIndex),
    /// The peer has every piece (BEP 6).
    HaveAll,
    /// The peer has no piece (BEP 6).
    HaveNone,
    /// The peer rejects one of our requests (BEP 6).
    Reject(BlockInfo),
    /// A piece that we may request while the peer chokes us (BEP 6).
    AllowedFast(PieceIndex),
    /// A message of the extension protocol (BEP 10): its id and its payload.
    Extended(u8, &'a [u8]),
    /// A message id that we do not know or do not use.
    Unknown(u8),
}

impl Message<'_> {
    /// Whether the message requires that both sides support the fast extension (BEP 6).
    pub fn is_fast(&self) -> bool {
        use Message::{AllowedFast, HaveAll, HaveNone, Reject, Suggest};
        matches!(self, Suggest(_) | HaveAll | HaveNone | Reject(_) | AllowedFast(_))
    }
}

/// Why received bytes are not a valid message. The connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A frame longer than any message needs.
    #[error("a frame of {0} bytes")]
    TooLong(u32),
    /// A length that does not match the message id.
    #[error("message {id} with {length} bytes")]
    WrongLength {
        /// The message id.
        id: u8,
        /// The frame's length in bytes, including the id.
        length: u32,
    },
}

/// Parses the first message in `bytes`. Returns the message and the number of bytes it took, or `None` if it is incomplete.
///
/// # Errors
/// [`WireError`] as soon as the length prefix and the id cannot belong to a valid message, before the body arrives. Nothing has
/// been allocated for it by then.
pub fn parse(bytes: &[u8]) -> Result<Option<(Message<'_>, usize)>, WireError> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_be_bytes(*prefix);
    if length == 0 {
        return Ok(Some((Message::KeepAlive, 4)));
    }
    if length as usize > MAX_FRAME {
        return Err(WireError::TooLong(length));
    }
    let Some(&id) = rest.first() else { return Ok(None) };
    check_length(id, length)?;
    let Some(frame) = rest.get(..length as usize) else { return Ok(None) };
    let body = &frame[1..];
    let message = match id {
        0 => Message::Choke,
        1 => Message::Unchoke,
        2 => Message::Interested,
        3 => Message::NotInterested,
        4 => Message::Have(PieceIndex(number(body, 0))),
        5 => Message::Bitfield(body),
        6 => Message::Request(block(body)),
        7 => {
            let data = &body[8..];
            let head =
                BlockInfo { piece: PieceIndex(number(body, 0)), begin: number(body, 4), length: data.len() as u32 };
            Message::Piece(head, data)
        }
        8 => Message::Cancel(block(body)),
        9 => Message::Port(u16::from_be_bytes([body[0], body[1]])),
        13 => Message::Suggest(PieceIndex(number(body, 0))),
        14 => Message::HaveAll,
        15 => Message::HaveNone,
        16 => Message::Reject(block(body)),
        17 => Message::AllowedFast(PieceIndex(number(body, 0))),
        20 => Message::Extended(body[0], &body[1..]),
        other => Message::Unknown(other),
    };
    Ok(Some((message, 4 + length as usize)))
}

/// Appends `port`, which announces the UDP port of our DHT node (BEP 5).
pub fn write_port(out: &mut Vec<u8>, port: u16) {
    out.extend_from_slice(&[0, 0, 0, 3, 9]);
    out.extend_from_slice(&port.to_be_bytes());
}

/// The length of the frame at the start of `bytes` including its prefix; 5 (prefix and id) while the prefix is incomplete.
pub fn frame_length(bytes: &[u8]) -> usize {
    match bytes.first_chunk::<4>() {
        Some(prefix) => 4 + (u32::from_be_bytes(*prefix) as usize).min(MAX_FRAME),
        None => 5,
    }
}

/// Checks the length against the message id, as soon as the id has arrived.
fn check_length(id: u8, length: u32) -> Result<(), WireError> {
    let fits = match id {
        0..=3 | 14 | 15 => length == 1,
        4 | 13 | 17 => length == 5,
        9 => length == 3,
        6 | 8 | 16 => length == 13,
        7 => (10..=9 + BLOCK_SIZE).contains(&length),
        20 => (2..=MAX_EXTENDED as u32).contains(&length),
        5 => true,
        _ => length as usize <= MAX_EXTENDED,
    };
    if fits { Ok(()) } else { Err(WireError::WrongLength { id, length }) }
}

/// Reads a big-endian number at `at`. The caller has checked the length.
fn number(body: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([body[at], body[at + 1], body[at + 2], body[at + 3]])
}

fn block(body: &[u8]) -> BlockInfo {
    BlockInfo { piece: PieceIndex(number(body, 0)), begin: number(body, 4), length: number(body, 8) }
}

/// Appends a message that consists of its id only.
fn write_bare(out: &mut Vec<u8>, id: u8) {
    out.extend_from_slice(&[0, 0, 0, 1, id]);
}

/// Appends a keep-alive.
pub fn write_keep_alive(out: &mut Vec<u8>) {
    out.extend_from_slice(&[0; 4]);
}

/// Appends `choke` or `unchoke`.
pub fn write_choke(out: &mut Vec<u8>, is_choked: bool) {
    write_bare(out, u8::from(!is_choked));
}

/// Appends `is_interested` or `not interested`.
pub fn write_interested(out: &mut Vec<u8>, is_interested: bool) {
    write_bare(out, if is_interested { 2 } else { 3 });
}

/// Appends `have`.
pub fn write_have(out: &mut Vec<u8>, piece: PieceIndex) {
    write_indexed(out, 4, piece);
}

/// Appends `allowed fast` (BEP 6).
pub fn write_allowed_fast(out: &mut Vec<u8>, piece: PieceIndex) {
    write_indexed(out, 17, piece);
}

fn write_indexed(out: &mut Vec<u8>, id: u8, piece: PieceIndex) {
    out.extend_from_slice(&[0, 0, 0, 5, id]);
    out.extend_from_slice(&piece.0.to_be_bytes());
}

/// Appends `have all` or `have none` (BEP 6).
pub fn write_have_all_or_none(out: &mut Vec<u8>, has_all: bool) {
    write_bare(out, if has_all { 14 } else { 15 });
}

/// Appends a bitfield.
pub fn write_bitfield(out: &mut Vec<u8>, bits: &[u8]) {
    out.extend_from_slice(&(bits.len() as u32 + 1).to_be_bytes());
    out.push(5);
    out.extend_from_slice(bits);
}

/// Appends `request`.
pub fn write_request(out: &mut Vec<u8>, block: BlockInfo) {
    write_ranged(out, 6, block);
}

/// Appends `cancel`.
pub fn write_cancel(out: &mut Vec<u8>, block: BlockInfo) {
    write_ranged(out, 8, block);
}

/// Appends `reject` (BEP 6).
pub fn write_reject(out: &mut Vec<u8>, block: BlockInfo) {
    write_ranged(out, 16, block);
}

fn write_ranged(out: &mut Vec<u8>, id: u8, block: BlockInfo) {
    out.extend_from_slice(&[0, 0, 0, 13, id]);
    for number in [block.piece.0, block.begin, block.length] {
        out.extend_from_slice(&number.to_be_bytes());
    }
}

/// Encodes a `piece` message's header, which precedes the block.
pub fn piece_header(block: BlockInfo) -> [u8; PIECE_HEADER_LENGTH] {
    let mut head = [0; PIECE_HEADER_LENGTH];
    head[..4].copy_from_slice(&(block.length + 9).to_be_bytes());
    head[4] = 7;
    head[5..9].copy_from_slice(&block.piece.0.to_be_bytes());
    head[9..].copy_from_slice(&block.begin.to_be_bytes());
    head
}

/// Appends a message of the extension protocol (BEP 10).
pub fn write_extended(out: &mut Vec<u8>, id: u8, payload: &[u8]) {
    out.extend_from_slice(&(payload.len() as u32 + 2).to_be_bytes());
    out.extend_from_slice(&[20, id]);
    out.extend_from_slice(payload);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn asked(piece: u32, begin: u32, length: u32) -> BlockInfo {
        BlockInfo { piece: PieceIndex(piece), begin, length }
    }

    #[test]
    fn every_message_comes_back() {
        let mut bytes = Vec::new();
        write_keep_alive(&mut bytes);
        write_choke(&mut bytes, true);
        write_choke(&mut bytes, false);
        write_interested(&mut bytes, true);
        write_interested(&mut bytes, false);
        write_have(&mut bytes, PieceIndex(77));
        write_bitfield(&mut bytes, &[0xf0, 1]);
        write_request(&mut bytes, asked(1, 2, 3));
        bytes.extend_from_slice(&piece_header(asked(4, 5, 3)));
        bytes.extend_from_slice(b"abc");
        write_cancel(&mut bytes, asked(6, 7, 8));
        write_have_all_or_none(&mut bytes, true);
        write_have_all_or_none(&mut bytes, false);
        write_reject(&mut bytes, asked(9, 10, 11));
        write_allowed_fast(&mut bytes, PieceIndex(12));
        bytes.extend_from_slice(&[0, 0, 0, 5, 13, 0, 0, 1, 0]);
        write_extended(&mut bytes, 9, b"de");
        let mut seen = Vec::new();
        let mut at = 0;
        while let Some((message, n)) = parse(&bytes[at..]).unwrap() {
            seen.push(format!("{message:?}"));
            at += n;
        }
        assert_eq!(at, bytes.len());
        let expected = [
            Message::KeepAlive,
            Message::Choke,
            Message::Unchoke,
            Message::Interested,
            Message::NotInterested,
            Message::Have(PieceIndex(77)),
            Message::Bitfield(&[0xf0, 1]),
            Message::Request(asked(1, 2, 3)),
            Message::Piece(asked(4, 5, 3), b"abc"),
            Message::Cancel(asked(6, 7, 8)),
            Message::HaveAll,
            Message::HaveNone,
            Message::Reject(asked(9, 10, 11)),
            Message::AllowedFast(PieceIndex(12)),
            Message::Suggest(PieceIndex(256)),
            Message::Extended(9, b"de"),
        ];
        assert_eq!(seen, expected.map(|m| format!("{m:?}")));
    }

    #[test]
    fn lengths_that_lie_end_the_connection_before_the_body_is_there() {
        for (bytes, error) in [
            (&[0xff, 0xff, 0xff, 0xff][..], WireError::TooLong(u32::MAX)),
            (&[0, 16, 0, 1, 5], WireError::TooLong(MAX_FRAME as u32 + 1)),
            (&[0, 0, 0, 2, 0], WireError::WrongLength { id: 0, length: 2 }),
            (&[0, 0, 0, 4, 4], WireError::WrongLength { id: 4, length: 4 }),
            (&[0, 0, 0, 12, 6], WireError::WrongLength { id: 6, length: 12 }),
            (&[0, 0, 0, 9, 7], WireError::WrongLength { id: 7, length: 9 }),
            (&[0, 0, 0x80, 0, 7], WireError::WrongLength { id: 7, length: 0x8000 }),
            (&[0, 0, 0, 4, 13], WireError::WrongLength { id: 13, length: 4 }),
            (&[0, 0, 0, 5, 14], WireError::WrongLength { id: 14, length: 5 }),
            (&[0, 0, 0, 2, 15], WireError::WrongLength { id: 15, length: 2 }),
            (&[0, 0, 0, 5, 16], WireError::WrongLength { id: 16, length: 5 }),
            (&[0, 0, 0, 13, 17], WireError::WrongLength { id: 17, length: 13 }),
            (&[0, 0, 0, 1, 20], WireError::WrongLength { id: 20, length: 1 }),
        ] {
            assert_eq!(parse(bytes), Err(error));
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic_and_never_overrun(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Ok(Some((_, n))) = parse(&bytes) {
                prop_assert!(n <= bytes.len() && n >= 4);
                prop_assert_eq!(frame_length(&bytes), n);
            }
        }

        #[test]
        fn a_message_is_found_however_it_is_cut(data in proptest::collection::vec(any::<u8>(), 1..64), cut in 0usize..77) {
            let mut bytes = piece_header(asked(1, 0, data.len() as u32)).to_vec();
            bytes.extend_from_slice(&data);
            let cut = cut.min(bytes.len());
            let part = parse(&bytes[..cut]).unwrap();
            prop_assert_eq!(part.is_some(), cut == bytes.len());
        }
    }
}
