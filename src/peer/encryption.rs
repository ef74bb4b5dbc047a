//! The start of a connection: plain or with message stream encryption (MSE), then the handshake of BEP 3. Connects `crate::mse`,
//! which does no I/O, to a socket; one deadline covers all of it, however slowly the bytes arrive.

use std::io::{self, Read, Write};
use std::time::{Duration, Instant};

use crate::mse::{
    Ciphers, CryptoMethods, Initiator, KeyMaterial, MseError, MseOutcome, Responder, detect_plaintext,
    obfuscated_info_hash,
};
use crate::peer::connection::DisconnectReason;
use crate::types::{DialMode, Encryption, InfoHash};
use crate::udp::PeerStream;
use crate::util::atomics::Flag;
use crate::util::random::Random;
use crate::wire::handshake::{self, Handshake};

/// Bytes read at once during the MSE handshake. It asks for more at once only for long initial payloads.
const CHUNK: usize = 256;
const OTHER_PROTOCOL: DisconnectReason = DisconnectReason::Handshake("another protocol");

impl Encryption {
    /// The methods we offer or accept in an encrypted handshake; `None` if we do not encrypt.
    fn methods(self) -> Option<CryptoMethods> {
        match self {
            Encryption::Allow => Some(CryptoMethods::PlaintextOrRc4),
            Encryption::Require => Some(CryptoMethods::Rc4Only),
            Encryption::Off => None,
        }
    }
}

/// The torrents that an incoming connection can be for.
pub trait OfferedTorrents {
    /// Whether the policy of any of them is meant.
    fn any_policy(&self, is_meant: &dyn Fn(Encryption) -> bool) -> bool;

    /// The torrent with this [`obfuscated_info_hash`], and its encryption policy.
    fn by_obfuscated_hash(&self, hash: &[u8; 20]) -> Option<(InfoHash, Encryption)>;
}

/// A single torrent.
impl OfferedTorrents for (InfoHash, Encryption) {
    fn any_policy(&self, is_meant: &dyn Fn(Encryption) -> bool) -> bool {
        is_meant(self.1)
    }

    fn by_obfuscated_hash(&self, hash: &[u8; 20]) -> Option<(InfoHash, Encryption)> {
        (obfuscated_info_hash(self.0) == *hash).then_some(*self)
    }
}

/// A connection during its handshake.
pub struct HandshakeStream<'a> {
    stream: &'a PeerStream,
    deadline: Instant,
    /// Set once any byte has arrived.
    has_received: &'a Flag,
    /// Received and decrypted bytes that have not been parsed yet.
    unparsed: Vec<u8>,
    /// Set once the two sides have agreed on them; `None` before that, and on a plain connection.
    ciphers: Option<Ciphers>,
}

/// The state of the stream that the reader and the writer continue with.
#[derive(Debug, Default)]
pub struct StreamState {
    /// Decrypted bytes that followed the handshake.
    pub unparsed: Vec<u8>,
    /// The ciphers for everything that follows; `None` on a plain connection.
    pub ciphers: Option<Ciphers>,
}

impl<'a> HandshakeStream<'a> {
    /// A connection on which nothing has been sent or received. The handshake must finish by `deadline`; `has_received` is set
    /// once any byte arrives.
    pub fn new(stream: &'a PeerStream, deadline: Instant, has_received: &'a Flag) -> HandshakeStream<'a> {
        HandshakeStream { stream, deadline, has_received, unparsed: Vec::new(), ciphers: None }
    }

    /// A connection on which the other side's handshake, or the start of it, has been received elsewhere.
    pub fn resume(
        stream: &'a PeerStream,
        deadline: Instant,
        has_received: &'a Flag,
        stream_state: StreamState,
    ) -> HandshakeStream<'a> {
        has_received.set(true);
        HandshakeStream {
            stream,
            deadline,
            has_received,
            unparsed: stream_state.unparsed,
            ciphers: stream_state.ciphers,
        }
    }

    /// The initiator's part: sends our handshake, in plain text or as the first payload after a key exchange.
    ///
    /// # Errors
    /// If the other side does not answer correctly and in time, or if `policy` rules out `dial_mode`.
    pub fn initiate(
        &mut self,
        dial_mode: DialMode,
        policy: Encryption,
        ours: &Handshake,
    ) -> Result<(), DisconnectReason> {
        match (dial_mode, policy.methods()) {
            (DialMode::Plain, _) if policy == Encryption::Require => Err(DisconnectReason::Handshake("not encrypted")),
            (DialMode::Plain, _) => self.send(&ours.encode()),
            (DialMode::Encrypted, None) => Err(DisconnectReason::Handshake("encrypted")),
            (DialMode::Encrypted, Some(methods)) => {
                let (draw, mut out) = (KeyMaterial::new(&mut Random::system()), Vec::new());
                let mut mse = Initiator::new(ours.info_hash, methods, &ours.encode(), draw, &mut out);
                self.write(&out)?;
                while mse.wanted() > 0 {
                    self.exchange(mse.wanted(), |bytes, out| mse.advance(bytes, out))?;
                }
                self.apply_outcome(mse.finish());
                Ok(())
            }
        }
    }

    /// The responder's part: detects how the other side starts, and exchanges keys if it starts so. Its BEP 3 handshake follows.
    ///
    /// # Errors
    /// If the other side does not continue correctly and in time, or starts in a way that `policy` rules out.
    pub fn respond(&mut self, policy: Encryption, info_hash: InfoHash) -> Result<(), DisconnectReason> {
        self.respond_for_any(&(info_hash, policy)).map(drop)
    }

    /// The same if the connection can be for any of several torrents, each with its own policy. Returns the torrent that an
    /// encrypted handshake names. A plain handshake names its torrent later; the caller then checks that torrent's policy.
    ///
    /// # Errors
    /// As [`HandshakeStream::respond`], if the other side starts in a way that all policies rule out.
    pub fn respond_for_any(
        &mut self,
        torrents: &(impl OfferedTorrents + Sync),
    ) -> Result<Option<InfoHash>, DisconnectReason> {
        // Neither kind of start is shorter than a plain handshake, so this reads none of the bytes that follow it.
        let mut bytes = [0; handshake::LENGTH];
        let mut filled = 0;
        let plain = loop {
            match bytes.get_mut(filled..) {
                Some(room) if !room.is_empty() => filled += self.read(room)?,
                _ => break false,
            }
            if let Some(plain) = detect_plaintext(bytes.get(..filled).unwrap_or_default()) {
                break plain;
            }
        };
        let begun = bytes.get(..filled).unwrap_or_default();
        if plain {
            if !torrents.any_policy(&|policy| policy != Encryption::Require) {
                return Err(DisconnectReason::Handshake("not encrypted"));
            }
            self.unparsed.extend_from_slice(begun);
            return Ok(None);
        }
        if !torrents.any_policy(&|policy| policy != Encryption::Off) {
            return Err(OTHER_PROTOCOL);
        }
        let find = |hash: &[u8; 20]| {
            torrents.by_obfuscated_hash(hash).and_then(|(swarm, policy)| Some((swarm, policy.methods()?)))
        };
        let mut mse = Responder::for_any_torrent(find, KeyMaterial::new(&mut Random::system()));
        let mut out = Vec::new();
        mse.advance(begun, &mut out)?;
        self.write(&out)?;
        while mse.wanted() > 0 {
            self.exchange(mse.wanted(), |bytes, out| mse.advance(bytes, out))?;
        }
        let chosen_torrent = mse.chosen_torrent();
        self.apply_outcome(mse.finish());
        Ok(chosen_torrent)
    }

    /// Receives the other side's handshake up to and including the info-hash. The rest may arrive only after our answer: trackers
    /// that check whether a peer can be reached wait for that, and never send more.
    ///
    /// # Errors
    /// If it does not arrive in time, or if it is not a handshake.
    pub fn read_info_hash(&mut self) -> Result<InfoHash, DisconnectReason> {
        self.fill(handshake::INFO_HASH_END)?;
        self.unparsed.first_chunk().and_then(Handshake::decode_info_hash).ok_or(OTHER_PROTOCOL)
    }

    /// Receives the other side's handshake, or the rest of it.
    ///
    /// # Errors
    /// If it does not arrive in time, or if it is not a handshake.
    pub fn read_handshake(&mut self) -> Result<Handshake, DisconnectReason> {
        self.fill(handshake::LENGTH)?;
        let theirs = self.unparsed.first_chunk().and_then(Handshake::decode).ok_or(OTHER_PROTOCOL)?;
        self.unparsed.drain(..handshake::LENGTH);
        Ok(theirs)
    }

    /// Receives until `unparsed` holds `length` bytes of the handshake.
    fn fill(&mut self, length: usize) -> Result<(), DisconnectReason> {
        while self.unparsed.len() < length {
            if detect_plaintext(&self.unparsed) == Some(false) {
                return Err(OTHER_PROTOCOL);
            }
            let mut bytes = [0; handshake::LENGTH];
            let missing = length - self.unparsed.len();
            let room = bytes.get_mut(..missing).unwrap_or_default();
            let n = self.read(room)?;
            let news = room.get_mut(..n).unwrap_or_default();
            if let Some(ciphers) = &mut self.ciphers {
                ciphers.receiving.apply(news);
            }
            self.unparsed.extend_from_slice(news);
        }
        Ok(())
    }

    /// Sends payload bytes, encrypted if the connection is.
    ///
    /// # Errors
    /// If the socket does not take them in time.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), DisconnectReason> {
        let Some(ciphers) = &mut self.ciphers else { return self.write(bytes) };
        let mut bytes = bytes.to_vec();
        ciphers.sending.apply(&mut bytes);
        self.write(&bytes)
    }

    /// The state to continue with after the handshakes.
    pub fn finish(self) -> StreamState {
        StreamState { unparsed: self.unparsed, ciphers: self.ciphers }
    }

    /// Reads once for the key exchange, and sends its answer.
    fn exchange(
        &mut self,
        wanted: usize,
        advance: impl FnOnce(&[u8], &mut Vec<u8>) -> Result<usize, MseError>,
    ) -> Result<(), DisconnectReason> {
        let mut bytes = [0; CHUNK];
        let room = bytes.get_mut(..wanted.min(CHUNK)).unwrap_or_default();
        let n = self.read(room)?;
        let mut out = Vec::new();
        // `advance` consumes all of it: no more than `wanted` bytes were read.
        advance(room.get(..n).unwrap_or_default(), &mut out)?;
        self.write(&out)
    }

    fn apply_outcome(&mut self, agreed: Option<MseOutcome>) {
        if let Some(agreed) = agreed {
            self.unparsed = agreed.initial;
            self.ciphers = agreed.ciphers;
        }
    }

    fn time_left(&self) -> Result<Duration, DisconnectReason> {
        let time_left = self.deadline.saturating_duration_since(Instant::now());
        if time_left.is_zero() { Err(DisconnectReason::Silent) } else { Ok(time_left) }
    }

    fn read(&mut self, room: &mut [u8]) -> Result<usize, DisconnectReason> {
        loop {
            self.stream.set_read_timeout(Some(self.time_left()?)).map_err(|e| DisconnectReason::io(&e))?;
            let mut stream = self.stream;
            match stream.read(room) {
                Ok(0) => return Err(DisconnectReason::Closed),
                Ok(n) => {
                    self.has_received.set(true);
                    return Ok(n);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(DisconnectReason::io(&error)),
            }
        }
    }

    /// At most 2 KiB in all, which a new connection's buffers take at once. So the deadline is checked between writes only.
    fn write(&mut self, bytes: &[u8]) -> Result<(), DisconnectReason> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.stream.set_write_timeout(Some(self.time_left()?)).map_err(|e| DisconnectReason::io(&e))?;
        let mut stream = self.stream;
        stream.write_all(bytes).map_err(|e| DisconnectReason::io(&e))
    }
}

#[cfg(test)]
mod tests;
