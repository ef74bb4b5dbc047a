//! The encrypted handshake. Random bytes never pass its checks, so an honest handshake is modified: RC4 passes every flipped bit
//! on to the encrypted field.

use btsync::mse::{CryptoMethods, Initiator, KeyMaterial, MAX_INITIAL, MseError, Responder, detect_plaintext};
use btsync::types::InfoHash;
use btsync::util::random::Random;

const SKEY: InfoHash = InfoHash([7; 20]);
const INITIAL: &[u8] = b"\x13BitTorrent protocol";

/// Byte 0 contains flags (1 and 2: RC4 only, for the initiator and the responder; 4: modify the data for the responder instead of
/// the initiator; 8: feed raw bytes to both instead of modifying a handshake). Bytes 1 and 2 are the offset of the changes in the
/// stream. The rest is combined with the stream by XOR.
pub fn mse(bytes: &[u8]) -> bool {
    let Some((&[flags, high, low], changes)) = bytes.split_first_chunk::<3>() else { return false };
    let methods = |bit: u8| if flags & bit == 0 { CryptoMethods::PlaintextOrRc4 } else { CryptoMethods::Rc4Only };
    let draw = |seed| KeyMaterial::new(&mut Random::seeded(seed));
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
    let (dialed, answered) = (initiator.finish(), responder.finish());
    assert!(answered.as_ref().is_none_or(|agreed| agreed.initial.len() <= MAX_INITIAL));
    let accepted = dialed.is_some() && answered.is_some();
    if honest {
        let (dialed, answered) = (dialed.expect("nobody lied"), answered.expect("nobody lied"));
        assert_eq!(answered.initial, INITIAL);
        assert_eq!(dialed.ciphers.is_some(), flags & 3 != 0);
        assert_eq!(answered.ciphers.is_some(), flags & 3 != 0);
    }
    accepted
}

/// Feeds `rest` in small parts, until a part is not taken completely: then the handshake is over.
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

/// An attacker between both sides.
struct Wire<'a> {
    /// The offset in the stream where the changes begin.
    at: usize,
    changes: &'a [u8],
}

impl Wire<'_> {
    /// Modifies the part of the stream that begins at `seen`.
    fn change(&mut self, sent: &mut [u8], seen: &mut usize) {
        for byte in sent {
            if let Some(change) = seen.checked_sub(self.at).and_then(|n| self.changes.get(n)) {
                *byte ^= change;
            }
            *seen += 1;
        }
    }
}
