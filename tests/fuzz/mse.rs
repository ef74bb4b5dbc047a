//! The encrypted handshake. Random bytes never get past its marks, so an honest handshake is what is tampered with: RC4 lets
//! each flipped bit through to the field that it hides.

use btsync::mse::{CryptoMethods, Initiator, MAX_INITIAL, MseError, RandomSource, Responder, detect_plaintext};
use btsync::types::InfoHash;
use btsync::util::random::Random;

const SKEY: InfoHash = InfoHash([7; 20]);
const INITIAL: &[u8] = b"\x13BitTorrent protocol";

/// Where the bytes go: byte 0 has the flags (1 and 2: RC4 only; 4: the responder is lied to rather than the initiator; 8: by raw
/// bytes instead of changes), bytes 1 and 2 say where in the stream the changes begin, the rest is what it is changed by.
pub fn mse(bytes: &[u8]) -> bool {
    let Some((&[flags, high, low], changes)) = bytes.split_first_chunk::<3>() else { return false };
    let methods = |bit: u8| if flags & bit == 0 { CryptoMethods::Either } else { CryptoMethods::Rc4Only };
    let draw = |seed| RandomSource::new(&mut Random::seeded(seed));
    let mut to_responder = Vec::new();
    let mut initiator = Initiator::new(SKEY, methods(1), INITIAL, draw(1), &mut to_responder);
    let mut responder = Responder::new(SKEY, methods(2), draw(2));
    if flags & 8 != 0 {
        let _ = detect_plaintext(changes);
        let (mut out, mut rest) = (Vec::new(), changes);
        let _ = feed(|part| responder.advance(part, &mut out), &mut rest);
        let mut rest = changes;
        let _ = feed(|part| initiator.advance(part, &mut out), &mut rest);
        return false;
    }
    let mut wire = Wire { at: usize::from(u16::from_be_bytes([high, low])), changes };
    let honest = changes.iter().all(|&byte| byte == 0);
    let mut to_initiator = Vec::new();
    let (mut seen_by_responder, mut seen_by_initiator) = (0, 0);
    let mut failed = false;
    while !(failed || to_responder.is_empty() && to_initiator.is_empty()) {
        let mut sent = std::mem::take(&mut to_responder);
        if flags & 4 != 0 {
            wire.change(&mut sent, &mut seen_by_responder);
        }
        failed |= feed(|part| responder.advance(part, &mut to_initiator), &mut sent.as_slice()).is_err();
        let mut sent = std::mem::take(&mut to_initiator);
        if flags & 4 == 0 {
            wire.change(&mut sent, &mut seen_by_initiator);
        }
        failed |= feed(|part| initiator.advance(part, &mut to_responder), &mut sent.as_slice()).is_err();
    }
    let (called, answered) = (initiator.finish(), responder.finish());
    assert!(answered.as_ref().is_none_or(|agreed| agreed.initial.len() <= MAX_INITIAL));
    let accepted = called.is_some() && answered.is_some();
    if honest {
        let (called, answered) = (called.expect("nobody lied"), answered.expect("nobody lied"));
        assert_eq!(answered.initial, INITIAL);
        assert_eq!(called.ciphers.is_some(), flags & 3 != 0);
        assert_eq!(answered.ciphers.is_some(), flags & 3 != 0);
    }
    accepted
}

/// Hands all of `rest` over in small parts, until one is not taken whole: then the handshake is over.
fn feed(mut advance: impl FnMut(&[u8]) -> Result<usize, MseError>, rest: &mut &[u8]) -> Result<(), MseError> {
    while !rest.is_empty() {
        let part = &rest[..rest.len().min(61)];
        let taken = advance(part)?;
        assert!(taken <= part.len());
        *rest = &rest[taken..];
        if taken < part.len() {
            break;
        }
    }
    Ok(())
}

/// Someone in the middle.
struct Wire<'a> {
    /// Where in the stream the changes begin.
    at: usize,
    changes: &'a [u8],
}

impl Wire<'_> {
    /// Changes the part of the stream that begins at `seen`.
    fn change(&mut self, sent: &mut [u8], seen: &mut usize) {
        for byte in sent {
            if let Some(change) = seen.checked_sub(self.at).and_then(|n| self.changes.get(n)) {
                *byte ^= change;
            }
            *seen += 1;
        }
    }
}
