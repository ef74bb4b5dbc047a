//! Decodes request bodies as they arrive: of a given length, or in chunks. Pure.

use crate::http_server::head::{Framing, RequestError};

/// The most bytes of chunk extensions and trailers; both are ignored.
const MAX_IGNORED: usize = 4 * 1024;
/// The most digits of a chunk's length.
const MAX_DIGITS: u8 = 16;

const TOO_LARGE: RequestError = RequestError { status: 413, why: "the body is too large" };
const MALFORMED: RequestError = RequestError { status: 400, why: "malformed chunks" };

/// The state of a body that arrives.
#[derive(Debug)]
pub(super) struct BodyDecoder {
    state: DecoderState,
    /// The most bytes that the body may have.
    limit: usize,
    /// The bytes of extensions and trailers so far.
    ignored: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DecoderState {
    /// This many bytes of a body with a length are missing.
    Length(u64),
    /// In the digits of a chunk's length.
    Size {
        value: u64,
        digits: u8,
    },
    Extension {
        value: u64,
    },
    SizeEnd {
        value: u64,
    },
    Data(u64),
    DataReturn,
    DataEnd,
    /// At the start of a line after the last chunk.
    TrailerStart,
    Trailer,
    TrailerEnd,
    LastEnd,
    Done,
}

impl BodyDecoder {
    /// Refuses a body that says that it is longer than `limit`.
    pub(super) fn new(framing: Framing, limit: usize) -> Result<BodyDecoder, RequestError> {
        let state = match framing {
            Framing::Length(length) if length > limit as u64 => return Err(TOO_LARGE),
            Framing::Length(0) => DecoderState::Done,
            Framing::Length(length) => DecoderState::Length(length),
            Framing::Chunked => DecoderState::Size { value: 0, digits: 0 },
        };
        Ok(BodyDecoder { state, limit, ignored: 0 })
    }

    /// Whether the body is complete.
    pub(super) fn is_done(&self) -> bool {
        self.state == DecoderState::Done
    }

    /// Decodes `input` into `body` and returns how many bytes of it belong to this body.
    pub(super) fn decode(&mut self, input: &[u8], body: &mut Vec<u8>) -> Result<usize, RequestError> {
        let mut at = 0;
        while let Some(rest) = input.get(at..).filter(|rest| !rest.is_empty()) {
            let taken = match self.state {
                DecoderState::Done => break,
                DecoderState::Length(left) => {
                    let data = first_of(rest, left);
                    body.extend_from_slice(data);
                    let left = left - data.len() as u64;
                    self.state = if left == 0 { DecoderState::Done } else { DecoderState::Length(left) };
                    data.len()
                }
                DecoderState::Data(left) => {
                    let data = first_of(rest, left);
                    body.extend_from_slice(data);
                    let left = left - data.len() as u64;
                    self.state = if left == 0 { DecoderState::DataReturn } else { DecoderState::Data(left) };
                    data.len()
                }
                _ => {
                    self.state = self.after(rest[0], body.len())?;
                    1
                }
            };
            at += taken;
        }
        Ok(at)
    }

    /// The state after one byte that is not data.
    fn after(&mut self, byte: u8, body: usize) -> Result<DecoderState, RequestError> {
        use DecoderState::{
            Data, DataEnd, DataReturn, Done, Extension, LastEnd, Size, SizeEnd, Trailer, TrailerEnd, TrailerStart,
        };
        let next = match (self.state, byte) {
            (Size { digits: 0, .. }, b'\r' | b';' | b' ' | b'\t') => return Err(MALFORMED),
            (Size { value, .. } | Extension { value }, b'\r') => SizeEnd { value },
            (Size { value, .. }, b';' | b' ' | b'\t') => Extension { value },
            (Size { value, digits }, digit) => {
                let digit = char::from(digit).to_digit(16).filter(|_| digits < MAX_DIGITS).ok_or(MALFORMED)?;
                Size { value: value << 4 | u64::from(digit), digits: digits + 1 }
            }
            (Extension { value }, byte) if byte != b'\n' => self.ignore(Extension { value })?,
            (SizeEnd { value: 0 } | TrailerEnd, b'\n') => TrailerStart,
            (SizeEnd { value }, b'\n') => {
                if value > self.limit.saturating_sub(body) as u64 {
                    return Err(TOO_LARGE);
                }
                Data(value)
            }
            (DataReturn, b'\r') => DataEnd,
            (DataEnd, b'\n') => Size { value: 0, digits: 0 },
            (TrailerStart, b'\r') => LastEnd,
            (Trailer, b'\r') => TrailerEnd,
            (TrailerStart | Trailer, byte) if byte != b'\n' => self.ignore(Trailer)?,
            (LastEnd, b'\n') => Done,
            _ => return Err(MALFORMED),
        };
        Ok(next)
    }

    fn ignore(&mut self, next: DecoderState) -> Result<DecoderState, RequestError> {
        self.ignored += 1;
        if self.ignored > MAX_IGNORED { Err(MALFORMED) } else { Ok(next) }
    }
}

fn first_of(bytes: &[u8], most: u64) -> &[u8] {
    let length = usize::try_from(most).unwrap_or(usize::MAX).min(bytes.len());
    bytes.get(..length).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Decodes in pieces of this many bytes. Returns the body and how much of the input is left.
    fn decode(framing: Framing, limit: usize, input: &[u8], step: usize) -> Result<(Vec<u8>, usize, bool), u16> {
        let mut decoder = BodyDecoder::new(framing, limit).map_err(|refusal| refusal.status)?;
        let (mut body, mut used) = (Vec::new(), 0);
        for piece in input.chunks(step) {
            used += decoder.decode(piece, &mut body).map_err(|refusal| refusal.status)?;
        }
        Ok((body, input.len() - used, decoder.is_done()))
    }

    #[test]
    fn chunks_are_joined_in_any_pieces() {
        let input = b"3\r\nabc\r\n0A;x=y\r\n0123456789\r\n1 \r\nz\r\n000\r\nTrailer: x\r\nY: z\r\n\r\nGET";
        for step in 1..input.len() {
            let decoded = decode(Framing::Chunked, 14, input, step);
            assert_eq!(decoded, Ok((b"abc0123456789z".to_vec(), 3, true)), "{step}");
        }
        assert_eq!(decode(Framing::Chunked, 13, input, 5), Err(413));
        for length in 0..input.len() - 3 {
            assert!(!decode(Framing::Chunked, 14, &input[..length], 7).unwrap().2, "{length}");
        }
    }

    #[test]
    fn a_length_is_kept() {
        assert_eq!(decode(Framing::Length(3), 3, b"abcdef", 2), Ok((b"abc".to_vec(), 3, true)));
        assert_eq!(decode(Framing::Length(3), 3, b"ab", 2), Ok((b"ab".to_vec(), 0, false)));
        assert_eq!(decode(Framing::Length(3), 2, b"", 1), Err(413));
        assert_eq!(decode(Framing::Length(0), 0, b"x", 1), Ok((Vec::new(), 1, true)));
    }

    #[test]
    fn malformed_chunks_are_refused() {
        for bad in [
            "\r\n",
            ";x\r\n",
            " 1\r\na\r\n0\r\n\r\n",
            "x\r\n",
            "-1\r\n",
            "+1\r\na",
            "0x1\r\n",
            "1\na\n0\n\n",
            "1\r\nab\r\n",
            "1\r\na\n0\r\n\r\n",
            "1\r\na\r0\r\n",
            "00000000000000001\r\n",
            "1;\n\r\n",
            "1 \n",
            "0\r\n\n",
            "0\r\nA: b\n\r\n",
            "0\r\nA: b\rC",
        ] {
            assert_eq!(decode(Framing::Chunked, 100, bad.as_bytes(), 3), Err(400), "{bad:?}");
        }
        assert_eq!(decode(Framing::Chunked, 100, b"ffffffffffffffff\r\n", 3), Err(413));
        let extension = format!("1;{}\r\n", "x".repeat(MAX_IGNORED + 1));
        assert_eq!(decode(Framing::Chunked, 100, extension.as_bytes(), 3), Err(400));
        let trailer = format!("0\r\n{}", "a: b\r\n".repeat(MAX_IGNORED));
        assert_eq!(decode(Framing::Chunked, 100, trailer.as_bytes(), 3), Err(400));
    }
}
