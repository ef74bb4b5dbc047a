//! Tests against values that another implementation computed from the specification, and against arbitrary bytes.

use proptest::prelude::*;

use super::*;
use crate::types::InfoHash;
use crate::util::hex::{from_hex, hex};
use crate::util::random::Random;
use crate::wire::handshake::LENGTH;

const YA: &str = "96e112dab29e8c5272accb9b17b26887ce54a144a4e3b697c7d159b7a817e556b0918db2b4c658e02a87f7e5fb14b18a\
    553e084cbf3dad2d30f16596ccb982d406258c61b30c5c1dae2ddc60bdbd48d79896312aad63238c39e1a633821eb693";
const YB: &str = "d32ae8cedd0de9ca4fe67e35626bb8c7cdb0966727d899f6a62fdb2b68817f9ddc4b684e3eb34030b8dba4e028b7cff3\
    264020340cb4eab61923cdc4e4216ba873368d83f0a38e497f1f6b4e3d2012eb91a3ee6056f966f9eae732089b6fa46e";
const S: &str = "d05ed96a95215a89b44073afe5d0b1626289ac01cff7849392948b2470b346547e944d7562a897ae86976bc389999083e\
    c09572dbdc8ed7f6a0a86a1aa42a3ca04209b72d8239890360435640643b76479ed7836f1857963fcc7cb72084c3ab4";
const PRIME: &str = "ffffffffffffffffc90fdaa22168c234c4c6628b80dc1cd129024e088a67cc74020bbea63b139b22514a08798e3404dd\
    ef9519b3cd3a431b302b0a6df25f14374fe1356d6d51c245e485b576625e7ec6f44c42e9a63a36210000000000090563";
/// The initiator's last bytes: everything from `HASH('req1', S)` to the end of `ENCRYPT(IA)`.
const THIRD: &str = "78fffb0f23055a793ff7609f359e04e383ec350560aef34caf7a6c843c5fd96a73da28c44e040a270dc4355ae7cc6770\
    7ec66051e851158f64c595eb88a823a47f4d387274c4b6ac7da60f7fdecb10aa4e6e557e7c07268ee661e2032d8c3e78d974f595a832e11521a1\
    415f15c829e02756fbc262b16d4c4c298738a326295f91";
/// The responder's answer, which selects RC4.
const FOURTH: &str = "a99e381373e3643a172941456261302504771b183b";

fn skey() -> InfoHash {
    InfoHash(numbers(200))
}

/// Twenty consecutive numbers.
fn numbers(from: u8) -> [u8; 20] {
    std::array::from_fn(|n| from + n as u8)
}

fn initial() -> Vec<u8> {
    [b"\x13BitTorrent protocol".as_slice(), &[0; 8], &skey().0, b"-XX0000-abcdefghijkl"].concat()
}

fn draw_a() -> KeyMaterial {
    KeyMaterial { private: numbers(1), pad: b"padding of A".to_vec(), zeros: 5 }
}

fn draw_b() -> KeyMaterial {
    KeyMaterial { private: numbers(101), pad: b"and of B".to_vec(), zeros: 7 }
}

/// Both state machines and the bytes they sent, in order.
struct HandshakePair {
    a: Initiator,
    b: Responder<'static>,
    from_a: Vec<u8>,
    from_b: Vec<u8>,
}

impl HandshakePair {
    fn new(
        methods_a: CryptoMethods,
        methods_b: CryptoMethods,
        draw_a: KeyMaterial,
        draw_b: KeyMaterial,
    ) -> HandshakePair {
        let mut from_a = Vec::new();
        let a = Initiator::new(skey(), methods_a, &initial(), draw_a, &mut from_a);
        HandshakePair { a, b: Responder::new(skey(), methods_b, draw_b), from_a, from_b: Vec::new() }
    }

    /// Passes bytes between both sides in chunks of at most `chunk` until both are done.
    fn exchange(&mut self, chunk: usize) -> Result<(), MseError> {
        let (mut received_a, mut received_b) = (0, 0);
        while received_b < self.from_a.len() || received_a < self.from_b.len() {
            let end = (received_b + chunk).min(self.from_a.len());
            received_b += self.b.advance(&self.from_a[received_b..end], &mut self.from_b)?;
            let end = (received_a + chunk).min(self.from_b.len());
            received_a += self.a.advance(&self.from_b[received_a..end], &mut self.from_a)?;
        }
        Ok(())
    }

    fn agreed(self) -> (MseOutcome, MseOutcome) {
        (self.a.finish().expect("the initiator is done"), self.b.finish().expect("the responder is done"))
    }
}

#[test]
fn the_key_exchange_is_as_computed_elsewhere() {
    assert_eq!((hex(&draw_a().public()), hex(&draw_b().public())), (YA.to_owned(), YB.to_owned()));
    for secret in [draw_a().secret(&draw_b().public()), draw_b().secret(&draw_a().public())] {
        assert_eq!(hex(&secret.expect("two good keys").0), S);
    }
}

#[test]
fn keys_that_give_the_secret_away_are_refused() {
    let number = |hex: &str| from_hex::<KEY_LENGTH>(&format!("{hex:0>192}")).expect("hexadecimal digits");
    // Invalid keys: 0, 1, the prime less one, the prime, and larger numbers. 2 and the prime less two are valid.
    let near = |last: &str| number(&format!("{}{last}", &PRIME[..PRIME.len() - 1]));
    assert!(draw_a().secret(&number("2")).is_ok() && draw_a().secret(&near("1")).is_ok());
    for key in [number("0"), number("1"), near("2"), near("3"), [0xff; KEY_LENGTH]] {
        assert_eq!(draw_a().secret(&key).err(), Some(MseError::Key));
        let mut out = Vec::new();
        let mut responder = Responder::new(skey(), CryptoMethods::PlaintextOrRc4, draw_b());
        assert_eq!(responder.advance(&key, &mut out), Err(MseError::Key));
        assert_eq!((out.len(), responder.wanted()), (0, 0));
    }
}

#[test]
fn a_whole_transcript_is_as_computed_elsewhere() {
    for chunk in [1, 7, 1000] {
        let mut both = HandshakePair::new(CryptoMethods::PlaintextOrRc4, CryptoMethods::Rc4Only, draw_a(), draw_b());
        both.exchange(chunk).expect("a handshake");
        assert_eq!(hex(&both.from_a), format!("{YA}{}{THIRD}", hex(b"padding of A")), "in chunks of {chunk}");
        assert_eq!(hex(&both.from_b), format!("{YB}{}{FOURTH}", hex(b"and of B")), "in chunks of {chunk}");
        let (a, b) = both.agreed();
        assert_eq!((a.initial, b.initial), (Vec::new(), initial()));
        let (mut a, mut b) = (a.ciphers.expect("RC4"), b.ciphers.expect("RC4"));
        let (mut to_b, mut to_a) = (*b"hello from A", *b"hello from B");
        a.sending.apply(&mut to_b);
        b.sending.apply(&mut to_a);
        assert_eq!(hex(&to_b), "106d0415291989594b3c826b");
        assert_eq!(hex(&to_a), "717e3b617aec60c621a7a026");
        b.receiving.apply(&mut to_b);
        a.receiving.apply(&mut to_a);
        assert_eq!((&to_b, &to_a), (b"hello from A", b"hello from B"));
    }
}

#[test]
fn plain_is_chosen_where_both_sides_allow_it() {
    use CryptoMethods::{PlaintextOrRc4, Rc4Only};
    for (a, b, rc4) in [
        (PlaintextOrRc4, PlaintextOrRc4, false),
        (PlaintextOrRc4, Rc4Only, true),
        (Rc4Only, PlaintextOrRc4, true),
        (Rc4Only, Rc4Only, true),
    ] {
        let mut both = HandshakePair::new(a, b, draw_a(), draw_b());
        both.exchange(50).expect("a handshake");
        let (a, b) = both.agreed();
        assert_eq!((a.ciphers.is_some(), b.ciphers.is_some()), (rc4, rc4));
        assert_eq!(b.initial, initial(), "encrypted under way, whatever was agreed");
    }
}

#[test]
fn bytes_after_the_handshake_are_not_consumed() {
    let mut both = HandshakePair::new(CryptoMethods::PlaintextOrRc4, CryptoMethods::PlaintextOrRc4, draw_a(), draw_b());
    both.exchange(1000).expect("a handshake");
    let (mut from_a, mut from_b) = (both.from_a.clone(), both.from_b.clone());
    from_a.extend_from_slice(b"payload");
    from_b.extend_from_slice(b"payload");
    let mut again =
        HandshakePair::new(CryptoMethods::PlaintextOrRc4, CryptoMethods::PlaintextOrRc4, draw_a(), draw_b());
    assert_eq!(again.b.advance(&from_a, &mut Vec::new()), Ok(from_a.len() - 7));
    assert_eq!(again.a.advance(&from_b, &mut Vec::new()), Ok(from_b.len() - 7));
    assert_eq!((again.a.wanted(), again.b.wanted()), (0, 0));
    again.agreed();
}

#[test]
fn another_torrent_is_told_from_ours() {
    let mut out = Vec::new();
    let mut a = Initiator::new(InfoHash([9; 20]), CryptoMethods::PlaintextOrRc4, &[], draw_a(), &mut out);
    a.advance(&draw_b().public(), &mut out).expect("their key");
    let mut b = Responder::new(skey(), CryptoMethods::PlaintextOrRc4, draw_b());
    assert_eq!(b.advance(&out, &mut Vec::new()), Err(MseError::AnotherTorrent));
}

/// Sends a valid handshake up to the encrypted part, then `said` as the encrypted part, and returns the responder's result.
fn answer_to(said: &[u8], methods: CryptoMethods) -> Result<usize, MseError> {
    let secret = draw_a().secret(&draw_b().public()).expect("two good keys");
    let mut said = said.to_vec();
    secret.initiator_stream(skey()).apply(&mut said);
    let sent = [draw_a().public().as_slice(), &secret.sync_mark(), &secret.torrent(skey()), &said].concat();
    Responder::new(skey(), methods, draw_b()).advance(&sent, &mut Vec::new())
}

#[test]
fn a_malformed_request_of_the_initiator_ends_the_handshake() {
    let part = |vc: [u8; 8], provide: u32, pad: u16, initial: u16| {
        let zeros = vec![0; usize::from(pad.min(600))];
        [vc.as_slice(), &provide.to_be_bytes(), &pad.to_be_bytes(), &zeros, &initial.to_be_bytes()].concat()
    };
    assert!(answer_to(&part(VC, 3, 512, 8192), CryptoMethods::PlaintextOrRc4).is_ok());
    assert_eq!(
        answer_to(&part([0, 0, 0, 0, 0, 0, 0, 1], 3, 0, 0), CryptoMethods::PlaintextOrRc4),
        Err(MseError::Verification)
    );
    assert_eq!(answer_to(&part(VC, 3, 513, 0), CryptoMethods::PlaintextOrRc4), Err(MseError::Padding(513)));
    assert_eq!(answer_to(&part(VC, 3, 0, 8193), CryptoMethods::PlaintextOrRc4), Err(MseError::Initial(8193)));
    assert_eq!(answer_to(&part(VC, 1, 0, 0), CryptoMethods::Rc4Only), Err(MseError::NoCommonMethod));
    assert_eq!(answer_to(&part(VC, 0xffff_fffc, 0, 0), CryptoMethods::PlaintextOrRc4), Err(MseError::NoCommonMethod));
}

#[test]
fn a_method_that_was_not_offered_ends_the_handshake() {
    let reply = |methods, select: u32, pad: u16| {
        let mut said = [VC.as_slice(), &select.to_be_bytes(), &pad.to_be_bytes()].concat();
        let secret = draw_a().secret(&draw_b().public()).expect("two good keys");
        secret.responder_stream(skey()).apply(&mut said);
        let mut a = Initiator::new(skey(), methods, &[], draw_a(), &mut Vec::new());
        a.advance(&[draw_b().public().as_slice(), &said].concat(), &mut Vec::new())
    };
    assert!(reply(CryptoMethods::PlaintextOrRc4, 1, 512).is_ok() && reply(CryptoMethods::PlaintextOrRc4, 2, 0).is_ok());
    assert_eq!(reply(CryptoMethods::Rc4Only, 1, 0), Err(MseError::Selected(1)));
    for select in [0, 3, 4] {
        assert_eq!(reply(CryptoMethods::PlaintextOrRc4, select, 0), Err(MseError::Selected(select)));
    }
    assert_eq!(reply(CryptoMethods::PlaintextOrRc4, 2, 513), Err(MseError::Padding(513)));
}

/// The mark is found after 512 bytes of padding. One more byte of padding is an error, reported at once.
#[test]
fn the_search_for_the_mark_is_bounded() {
    for (length, found) in [(0, true), (511, true), (512, true), (513, false)] {
        let pad = vec![0x55; length];
        let mut both = HandshakePair::new(
            CryptoMethods::PlaintextOrRc4,
            CryptoMethods::PlaintextOrRc4,
            KeyMaterial { pad: pad.clone(), ..draw_a() },
            draw_b(),
        );
        assert_eq!(both.exchange(13).err(), (!found).then_some(MseError::NotSynchronized), "PadA of {length}");
        let mut both = HandshakePair::new(
            CryptoMethods::PlaintextOrRc4,
            CryptoMethods::PlaintextOrRc4,
            draw_a(),
            KeyMaterial { pad, ..draw_b() },
        );
        assert_eq!(both.exchange(13).err(), (!found).then_some(MseError::NotSynchronized), "PadB of {length}");
    }
    let mut b = Responder::new(skey(), CryptoMethods::PlaintextOrRc4, draw_b());
    b.advance(&draw_a().public(), &mut Vec::new()).expect("a key");
    let mut fed = 0;
    while b.advance(&[0x55], &mut Vec::new()).is_ok() {
        fed += 1;
        assert!(fed < 512 + 20, "it searches on and on");
    }
}

/// Padding that repeats the start of the mark must not hide the mark.
#[test]
fn padding_that_looks_like_the_mark_does_not_hide_it() {
    let secret = draw_a().secret(&draw_b().public()).expect("two good keys");
    for cut in 1..20 {
        let pad = secret.sync_mark()[..cut].repeat(3);
        let mut both = HandshakePair::new(
            CryptoMethods::PlaintextOrRc4,
            CryptoMethods::PlaintextOrRc4,
            KeyMaterial { pad, ..draw_a() },
            draw_b(),
        );
        both.exchange(1000).expect("a handshake");
        both.agreed();
    }
}

#[test]
fn a_plain_handshake_is_recognised_from_its_first_bytes() {
    assert_eq!(detect_plaintext(b""), None);
    assert_eq!(detect_plaintext(b"\x13"), None);
    assert_eq!(detect_plaintext(b"\x13BitTorrent protoco"), None);
    assert_eq!(detect_plaintext(&initial()), Some(true));
    assert_eq!(detect_plaintext(b"\x13BitTorrent protocoX"), Some(false));
    assert_eq!(detect_plaintext(b"G"), Some(false));
    assert_eq!(initial().len(), LENGTH);
}

/// Feeds a state machine in chunks of the lengths in `cuts`, and continues after errors. Returns the first error.
fn feed(
    bytes: &[u8],
    cuts: &[usize],
    mut advance: impl FnMut(&[u8]) -> Result<usize, MseError>,
) -> Result<(), MseError> {
    let (mut rest, mut result) = (bytes, Ok(()));
    for cut in cuts.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (now, after) = rest.split_at((*cut).clamp(1, rest.len()));
        rest = after;
        match advance(now) {
            Ok(taken) => assert!(taken <= now.len()),
            Err(error) => result = result.and(Err(error)),
        }
    }
    result
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn random_draws_agree_however_the_bytes_are_cut(seed: u64, chunk in 1usize..700) {
        let mut random = Random::seeded(seed);
        let (a, b) = (KeyMaterial::new(&mut random), KeyMaterial::new(&mut random));
        let mut both = HandshakePair::new(CryptoMethods::PlaintextOrRc4, CryptoMethods::Rc4Only, a, b);
        both.exchange(chunk).expect("a handshake");
        let (a, b) = both.agreed();
        prop_assert_eq!(b.initial, initial());
        let mut bytes = seed.to_be_bytes();
        a.ciphers.expect("RC4").sending.apply(&mut bytes);
        b.ciphers.expect("RC4").receiving.apply(&mut bytes);
        prop_assert_eq!(bytes, seed.to_be_bytes());
    }

    #[test]
    fn garbage_is_never_agreed_with_nor_answered_at_length(
        bytes in proptest::collection::vec(any::<u8>(), 0..2000),
        cuts in proptest::collection::vec(1usize..200, 1..8),
    ) {
        let mut out = Vec::new();
        let mut b = Responder::new(skey(), CryptoMethods::PlaintextOrRc4, draw_b());
        let _ = feed(&bytes, &cuts, |bytes| b.advance(bytes, &mut out));
        prop_assert!(out.is_empty() || out.len() == KEY_LENGTH + draw_b().pad.len());
        prop_assert!(b.finish().is_none());
        let mut a = Initiator::new(skey(), CryptoMethods::PlaintextOrRc4, &initial(), draw_a(), &mut out);
        let _ = feed(&bytes, &cuts, |bytes| a.advance(bytes, &mut out));
        prop_assert!(a.finish().is_none());
    }

    /// A flipped bit may change padding or payload, but causes no panic and no method that was not provided.
    #[test]
    fn mutated_transcripts_do_no_harm(
        at in 0usize..300, bit in 0u8..8, cuts in proptest::collection::vec(1usize..200, 1..8),
    ) {
        let new = || HandshakePair::new(CryptoMethods::Rc4Only, CryptoMethods::Rc4Only, draw_a(), draw_b());
        let (mut both, mut again) = (new(), new());
        both.exchange(1000).expect("a handshake");
        let flip = |bytes: &[u8]| {
            let mut bytes = bytes.to_vec();
            let at = at % bytes.len();
            bytes[at] ^= 1 << bit;
            (bytes, at)
        };
        let (bytes, at) = flip(&both.from_a);
        let _ = feed(&bytes, &cuts, |bytes| again.b.advance(bytes, &mut Vec::new()));
        let agreed = again.b.finish();
        // The key, the two hashes and the verification constant. Padding separates the key from the hashes.
        let checked = at < KEY_LENGTH || (KEY_LENGTH + 12..KEY_LENGTH + 12 + 20 + 20 + 8).contains(&at);
        prop_assert!(agreed.is_none() || !checked, "byte {} does not matter", at);
        prop_assert!(agreed.is_none_or(|agreed| agreed.ciphers.is_some()));
        let (bytes, _) = flip(&both.from_b);
        let _ = feed(&bytes, &cuts, |bytes| again.a.advance(bytes, &mut Vec::new()));
        prop_assert!(again.a.finish().is_none_or(|agreed| agreed.ciphers.is_some()));
    }
}
