//! The messages of metadata exchange (BEP 9), as payloads of an extension message: a bencoded dictionary, which the bytes of a
//! metadata piece may follow. Parsed messages borrow from the received bytes.

use serde::Deserialize;

use crate::bencode::validate;

/// The size of a metadata piece, in bytes; the last piece may be shorter.
pub const PIECE: u32 = 16 * 1024;
/// The largest metadata that we accept, in bytes.
pub const MAX_SIZE: u32 = 30 * 1024 * 1024;
/// The longest dictionary that we parse, in bytes.
const MAX_HEAD: usize = 1024;

/// One message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetadataMessage<'a> {
    /// The sender requests a piece.
    Request {
        /// The piece number, from 0.
        piece: u32,
    },
    /// The sender delivers a piece.
    Data {
        /// The piece number, from 0.
        piece: u32,
        /// The size of the whole metadata in bytes, at most [`MAX_SIZE`].
        total_size: u32,
        /// The piece's bytes, of exactly the length that its number and the total size require.
        bytes: &'a [u8],
    },
    /// The sender does not deliver this piece.
    Reject {
        /// The piece number, from 0.
        piece: u32,
    },
}

/// Why a payload is not a valid metadata message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetadataError {
    /// Longer than any valid message.
    #[error("a metadata message is too long")]
    TooLong,
    /// Not a dictionary, or without the required keys.
    #[error("a metadata message is malformed")]
    Malformed,
    /// The piece number is out of range, or the total size is 0 or above [`MAX_SIZE`].
    #[error("a metadata message names a piece that cannot exist")]
    Range,
    /// The piece has the wrong length.
    #[error("a piece of metadata is of the wrong size")]
    PieceSize,
}

#[derive(Deserialize)]
struct Dictionary {
    msg_type: i64,
    #[serde(default)]
    piece: Option<i64>,
    #[serde(default)]
    total_size: Option<i64>,
}

impl<'a> MetadataMessage<'a> {
    /// Parses a payload. Returns `Ok(None)` for an unknown message type, which BEP 9 says to ignore.
    ///
    /// # Errors
    /// See [`MetadataError`].
    pub fn parse(payload: &'a [u8]) -> Result<Option<MetadataMessage<'a>>, MetadataError> {
        if payload.len() > MAX_HEAD + PIECE as usize {
            return Err(MetadataError::TooLong);
        }
        let head = payload.get(..MAX_HEAD).unwrap_or(payload);
        let length = validate::prefix(head).map_err(|_| MetadataError::Malformed)?;
        let (head, bytes) = payload.split_at_checked(length).ok_or(MetadataError::Malformed)?;
        let said: Dictionary = serde_bencode::from_bytes(head).map_err(|_| MetadataError::Malformed)?;
        if !matches!(said.msg_type, 0..=2) {
            return Ok(None);
        }
        let piece = said.piece.ok_or(MetadataError::Malformed)?;
        let piece = u32::try_from(piece).ok().filter(|&piece| piece < pieces(MAX_SIZE));
        let piece = piece.ok_or(MetadataError::Range)?;
        Ok(match said.msg_type {
            0 => Some(MetadataMessage::Request { piece }),
            1 => {
                let total = said.total_size.ok_or(MetadataError::Malformed)?;
                let total_size = u32::try_from(total).ok().filter(|total| (1..=MAX_SIZE).contains(total));
                let total_size = total_size.ok_or(MetadataError::Range)?;
                let size = piece_size(total_size, piece).ok_or(MetadataError::Range)?;
                if bytes.len() != size as usize {
                    return Err(MetadataError::PieceSize);
                }
                Some(MetadataMessage::Data { piece, total_size, bytes })
            }
            2 => Some(MetadataMessage::Reject { piece }),
            _ => None,
        })
    }

    /// Encodes the payload.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            MetadataMessage::Request { piece } => format!("d8:msg_typei0e5:piecei{piece}ee").into_bytes(),
            MetadataMessage::Data { piece, total_size, bytes } => {
                let mut out = format!("d8:msg_typei1e5:piecei{piece}e10:total_sizei{total_size}ee").into_bytes();
                out.extend_from_slice(bytes);
                out
            }
            MetadataMessage::Reject { piece } => format!("d8:msg_typei2e5:piecei{piece}ee").into_bytes(),
        }
    }
}

/// The number of pieces in metadata of `size` bytes.
pub fn pieces(size: u32) -> u32 {
    size.div_ceil(PIECE)
}

/// The length of a piece in bytes; `None` if the metadata has no such piece.
pub fn piece_size(size: u32, piece: u32) -> Option<u32> {
    let begin = piece.checked_mul(PIECE)?;
    size.checked_sub(begin).filter(|&rest| rest > 0).map(|rest| rest.min(PIECE))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_examples_of_the_bep() {
        let parse = |text: &'static str| MetadataMessage::parse(text.as_bytes());
        assert_eq!(parse("d8:msg_typei0e5:piecei0ee"), Ok(Some(MetadataMessage::Request { piece: 0 })));
        assert_eq!(parse("d8:msg_typei2e5:piecei0ee"), Ok(Some(MetadataMessage::Reject { piece: 0 })));
        let mut data = b"d8:msg_typei1e5:piecei0e10:total_sizei3425ee".to_vec();
        data.extend([b'x'; 3425]);
        let read = MetadataMessage::Data { piece: 0, total_size: 3425, bytes: &[b'x'; 3425] };
        assert_eq!(MetadataMessage::parse(&data), Ok(Some(read)));
        assert_eq!(read.encode(), data);
        for unknown in ["d8:msg_typei7e5:piecei0ee", "d8:msg_typei7ee", "d8:msg_typei-1e5:piecei-1ee"] {
            assert_eq!(parse(unknown), Ok(None), "kinds that are not known are ignored");
        }
        assert_eq!(parse("d3:fooi1e8:msg_typei0e5:piecei3ee"), Ok(Some(MetadataMessage::Request { piece: 3 })));
    }

    #[test]
    fn lies_are_errors() {
        let parse = |text: &str| MetadataMessage::parse(text.as_bytes()).unwrap_err();
        for text in ["", "i1e", "de", "d8:msg_typei0ee", "d8:msg_type1:05:piecei0ee", "d8:msg_typei1e5:piecei0eex"] {
            assert_eq!(parse(text), MetadataError::Malformed, "{text}");
        }
        assert_eq!(parse(&"l".repeat(2000)), MetadataError::Malformed);
        for piece in ["-1", "1920", "4294967296", "9223372036854775807"] {
            assert_eq!(parse(&format!("d8:msg_typei0e5:piecei{piece}ee")), MetadataError::Range, "{piece}");
        }
        for total in ["0", "-1", "31457281", "4294967297"] {
            let data = format!("d8:msg_typei1e5:piecei0e10:total_sizei{total}eex");
            assert_eq!(parse(&data), MetadataError::Range, "{total}");
        }
        assert_eq!(parse("d8:msg_typei1e5:piecei1e10:total_sizei16384ee"), MetadataError::Range);
        for bytes in ["", "x", "xxx"] {
            let data = format!("d8:msg_typei1e5:piecei1e10:total_sizei16386ee{bytes}");
            assert_eq!(parse(&data), MetadataError::PieceSize, "{bytes}");
        }
        assert_eq!(parse(&"x".repeat(17 * 1024 + 1)), MetadataError::TooLong);
    }

    #[test]
    fn sizes_of_pieces() {
        assert_eq!((pieces(1), pieces(PIECE), pieces(PIECE + 1)), (1, 1, 2));
        assert_eq!((piece_size(PIECE + 1, 0), piece_size(PIECE + 1, 1)), (Some(PIECE), Some(1)));
        assert_eq!((piece_size(PIECE, 1), piece_size(1, u32::MAX)), (None, None));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), kind in -2i64..4, n: i64, total: i64) {
            let _ = MetadataMessage::parse(&bytes);
            let head = format!("d8:msg_typei{kind}e5:piecei{n}e10:total_sizei{total}ee");
            let _ = MetadataMessage::parse(&[head.as_bytes(), &bytes].concat());
        }
    }
}
