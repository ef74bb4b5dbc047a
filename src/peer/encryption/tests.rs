//! Both ends of a connection over loopback: every policy against every other, and ends that misbehave.

use std::net::{TcpListener, TcpStream};
use std::thread;

use super::*;
use crate::types::PeerId;

const TORRENT: InfoHash = InfoHash([7; 20]);
/// A time limit that no test comes close to.
const PATIENCE: Duration = Duration::from_secs(60);
static HEARD: Flag = Flag::new(false);

fn ours(id: u8) -> Handshake {
    Handshake::ours(TORRENT, PeerId([id; 20]), false)
}

/// Both ends of a connection.
fn pair() -> (PeerStream, PeerStream) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let initiator = TcpStream::connect(listener.local_addr().expect("an address")).expect("a connection");
    let responder = listener.accept().expect("a connection").0;
    (initiator.into(), responder.into())
}

fn peer_stream(stream: &PeerStream) -> HandshakeStream<'_> {
    HandshakeStream::new(stream, Instant::now() + PATIENCE, &HEARD)
}

/// The initiator's handshake, and the rest of the stream.
fn initiate(
    stream: &PeerStream,
    dial_mode: DialMode,
    policy: Encryption,
) -> Result<(Handshake, StreamState), DisconnectReason> {
    let mut peer_stream = peer_stream(stream);
    peer_stream.initiate(dial_mode, policy, &ours(1))?;
    Ok((peer_stream.read_handshake()?, peer_stream.finish()))
}

fn respond(stream: &PeerStream, policy: Encryption) -> Result<(Handshake, StreamState), DisconnectReason> {
    let mut peer_stream = peer_stream(stream);
    peer_stream.respond(policy, TORRENT)?;
    assert_eq!(peer_stream.read_info_hash()?, TORRENT);
    peer_stream.send(&ours(2).encode())?;
    Ok((peer_stream.read_handshake()?, peer_stream.finish()))
}

type Ends = (Result<(Handshake, StreamState), DisconnectReason>, Result<(Handshake, StreamState), DisconnectReason>);

/// One connection, and the result at both ends.
fn meet(dial_mode: DialMode, initiator: Encryption, responder: Encryption) -> Ends {
    let (ours, theirs) = pair();
    let answers = thread::spawn(move || respond(&theirs, responder));
    let result = initiate(&ours, dial_mode, initiator);
    drop(ours);
    (result, answers.join().expect("no panic"))
}

/// How the connection continued.
#[derive(Debug, PartialEq)]
enum Payload {
    Plain,
    Rc4,
    Refused,
}

fn payload(ends: Ends) -> Payload {
    match ends {
        (Ok((from_2, a)), Ok((from_1, b))) => {
            assert_eq!((from_1, from_2), (ours(1), ours(2)));
            assert!(a.unparsed.is_empty() && b.unparsed.is_empty());
            match (a.ciphers, b.ciphers) {
                (None, None) => Payload::Plain,
                (Some(mut a), Some(mut b)) => {
                    let mut bytes = *b"this way and that way";
                    a.sending.apply(&mut bytes);
                    b.receiving.apply(&mut bytes);
                    b.sending.apply(&mut bytes);
                    a.receiving.apply(&mut bytes);
                    assert_eq!(&bytes, b"this way and that way");
                    Payload::Rc4
                }
                _ => panic!("one end encrypts and the other does not"),
            }
        }
        (Err(DisconnectReason::Closed | DisconnectReason::Lost(_) | DisconnectReason::Handshake(_)), Err(_)) => {
            Payload::Refused
        }
        other => panic!("the ends do not agree: {other:?}"),
    }
}

#[test]
fn every_policy_meets_every_other() {
    use Encryption::{Allow, Off, Require};
    // Initiator's policy, responder's policy, result of a plain and of an encrypted handshake.
    let matrix = [
        (Allow, Allow, Payload::Plain, Payload::Plain),
        (Allow, Require, Payload::Refused, Payload::Rc4),
        (Allow, Off, Payload::Plain, Payload::Refused),
        (Require, Allow, Payload::Refused, Payload::Rc4),
        (Require, Require, Payload::Refused, Payload::Rc4),
        (Require, Off, Payload::Refused, Payload::Refused),
        (Off, Allow, Payload::Plain, Payload::Refused),
        (Off, Require, Payload::Refused, Payload::Refused),
        (Off, Off, Payload::Plain, Payload::Refused),
    ];
    for (initiator, responder, plain, encrypted) in matrix {
        assert_eq!(
            payload(meet(DialMode::Plain, initiator, responder)),
            plain,
            "plain, {initiator:?} to {responder:?}"
        );
        assert_eq!(
            payload(meet(DialMode::Encrypted, initiator, responder)),
            encrypted,
            "encrypted, {initiator:?} to {responder:?}"
        );
    }
}

#[test]
fn a_connection_for_another_torrent_is_refused() {
    let (initiator, responder) = pair();
    let answers = thread::spawn(move || {
        let mut peer_stream = peer_stream(&responder);
        peer_stream.respond(Encryption::Allow, InfoHash([8; 20]))
    });
    assert!(initiate(&initiator, DialMode::Encrypted, Encryption::Allow).is_err());
    assert_eq!(answers.join().expect("no panic"), Err(DisconnectReason::Encryption(MseError::AnotherTorrent)));
}

/// The payload that the initiator sends as `IA` reaches the reader, and so does the RC4 payload that follows.
#[test]
fn bytes_behind_the_handshake_are_kept() {
    for methods in [CryptoMethods::PlaintextOrRc4, CryptoMethods::Rc4Only] {
        let (mut initiator, responder) = pair();
        let answers = thread::spawn(move || respond(&responder, Encryption::Allow));
        let initial = [ours(1).encode().as_slice(), b"a bitfield"].concat();
        let mut out = Vec::new();
        let mut mse = Initiator::new(TORRENT, methods, &initial, KeyMaterial::new(&mut Random::seeded(1)), &mut out);
        while mse.wanted() > 0 {
            // As slow as possible: byte by byte, in both directions.
            for byte in out.drain(..) {
                initiator.write_all(&[byte]).expect("they listen");
            }
            let mut byte = [0];
            initiator.read_exact(&mut byte).expect("they answer");
            mse.advance(&byte, &mut out).expect("a good answer");
        }
        let mut theirs = [0; handshake::LENGTH];
        initiator.read_exact(&mut theirs).expect("their handshake");
        let agreed = mse.finish().expect("all is said");
        if let Some(mut ciphers) = agreed.ciphers {
            ciphers.receiving.apply(&mut theirs);
        }
        assert_eq!(Handshake::decode(&theirs), Some(ours(2)));
        let (from_1, stream_state) = answers.join().expect("no panic").expect("a handshake");
        assert_eq!((from_1, stream_state.unparsed.as_slice()), (ours(1), b"a bitfield".as_slice()));
        assert_eq!(stream_state.ciphers.is_some(), methods == CryptoMethods::Rc4Only);
    }
}

#[test]
fn a_plain_handshake_may_drip() {
    let (mut initiator, responder) = pair();
    let answers = thread::spawn(move || respond(&responder, Encryption::Allow));
    for byte in ours(1).encode() {
        initiator.write_all(&[byte]).expect("they listen");
    }
    let (theirs, stream_state) = answers.join().expect("no panic").expect("a handshake");
    assert_eq!(theirs, ours(1));
    assert!(stream_state.ciphers.is_none() && stream_state.unparsed.is_empty());
}

#[test]
fn the_info_hash_is_enough_for_an_answer() {
    let (mut initiator, responder) = pair();
    let answers = thread::spawn(move || respond(&responder, Encryption::Allow));
    let bytes = ours(1).encode();
    initiator.write_all(&bytes[..handshake::INFO_HASH_END]).expect("they listen");
    let mut theirs = [0; handshake::LENGTH];
    initiator.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    initiator.read_exact(&mut theirs).expect("their handshake");
    assert_eq!(Handshake::decode(&theirs), Some(ours(2)));
    initiator.write_all(&bytes[handshake::INFO_HASH_END..]).expect("they listen");
    assert_eq!(answers.join().expect("no panic").expect("a handshake").0, ours(1));
}

#[test]
fn other_protocols_are_refused() {
    // Long enough for a key and the longest padding.
    let noise: Vec<u8> = b"GET / HTTP/1.1\r\n".repeat(60);
    for policy in [Encryption::Allow, Encryption::Require, Encryption::Off] {
        let (mut initiator, responder) = pair();
        initiator.write_all(&noise).expect("room for it");
        let expected = if policy == Encryption::Off {
            DisconnectReason::Handshake("another protocol")
        } else {
            DisconnectReason::Encryption(MseError::NotSynchronized)
        };
        assert_eq!(respond(&responder, policy).err(), Some(expected));
    }
    // An initiator that starts in plain text and then sends something else.
    let (mut initiator, responder) = pair();
    initiator.write_all(b"\x13BitTorrent protocoX").expect("room for it");
    drop(initiator);
    assert_eq!(respond(&responder, Encryption::Allow).err(), Some(DisconnectReason::Closed), "it may have been a key");
}

#[test]
fn a_peer_that_disconnects_or_sends_nothing_is_not_waited_for() {
    for said in [b"".as_slice(), b"\x13", &[1; 90], &[1; 200]] {
        let (mut initiator, responder) = pair();
        initiator.write_all(said).expect("room for it");
        initiator.shutdown(std::net::Shutdown::Write).expect("half a connection");
        assert_eq!(respond(&responder, Encryption::Allow).err(), Some(DisconnectReason::Closed));
    }
    let (_caller, responder) = pair();
    let mut late = HandshakeStream::new(&responder, Instant::now(), &HEARD);
    assert_eq!(late.respond(Encryption::Allow, TORRENT), Err(DisconnectReason::Silent));
}
