//! How a connection begins: plainly or with message stream encryption, and the handshake of BEP 3 through either. The thin rim
//! around `wire::mse`: it lends it a socket, within one deadline for all of it however the bytes drip.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::mse::{Ciphers, CryptoMethods, Initiator, MseError, MseOutcome, RandomSource, Responder, detect_plaintext};
use crate::peer::connection::DisconnectReason;
use crate::types::{DialMode, Encryption, InfoHash};
use crate::util::random::Random;
use crate::wire::handshake::{self, Handshake};

/// Bytes read at a time during the handshake of MSE; it wants no more of them at once but for long initial payloads.
const CHUNK: usize = 256;
const OTHER_PROTOCOL: DisconnectReason = DisconnectReason::Handshake("another protocol");

impl Encryption {
    /// What may follow an encrypted handshake; `None` where there is none.
    fn methods(self) -> Option<CryptoMethods> {
        match self {
            Encryption::Prefer => Some(CryptoMethods::Either),
            Encryption::Require => Some(CryptoMethods::Rc4Only),
            Encryption::Off => None,
        }
    }
}

/// A connection whose handshake is under way.
pub struct PeerStream<'a> {
    stream: &'a TcpStream,
    deadline: Instant,
    /// Set once anything has come.
    received: &'a AtomicBool,
    /// Received, decrypted, and not yet looked at.
    early: Vec<u8>,
    /// Once they are agreed; `None` while or where the connection is plain.
    ciphers: Option<Ciphers>,
}

/// What the reader and the writer go on with.
#[derive(Debug, Default)]
pub struct StreamState {
    /// What has come behind the handshake, decrypted.
    pub early: Vec<u8>,
    /// For all that follows; `None` where the connection is plain.
    pub ciphers: Option<Ciphers>,
}

impl<'a> PeerStream<'a> {
    /// A line on which nothing has been said; the handshake must be over by `deadline`. `received` is set once anything comes.
    pub fn new(stream: &'a TcpStream, deadline: Instant, received: &'a AtomicBool) -> PeerStream<'a> {
        PeerStream { stream, deadline, received, early: Vec::new(), ciphers: None }
    }

    /// A connection on which somebody else has received the other side's handshake, or the start of it.
    pub fn resume(
        stream: &'a TcpStream,
        deadline: Instant,
        received: &'a AtomicBool,
        rest: StreamState,
    ) -> PeerStream<'a> {
        received.store(true, Ordering::Relaxed);
        PeerStream { stream, deadline, received, early: rest.early, ciphers: rest.ciphers }
    }

    /// The caller's part: our handshake, in the clear or as the first bytes behind a key exchange.
    ///
    /// # Errors
    /// Where the other side does not answer in time or as it should, or `policy` has no such opening.
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
                let (draw, mut out) = (RandomSource::new(&mut Random::system()), Vec::new());
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

    /// The called side's part: finds out how the caller begins, and exchanges keys where it wants that. Its handshake comes next.
    ///
    /// # Errors
    /// Where the caller does not go on in time or as it should, or begins in a way that `policy` excludes.
    pub fn respond(&mut self, policy: Encryption, info_hash: InfoHash) -> Result<(), DisconnectReason> {
        self.respond_for_any(&[(info_hash, policy)]).map(drop)
    }

    /// The same where the caller may mean any of several torrents, each with a policy of its own: the one that an encrypted
    /// caller means. What a plain one means stands in its handshake, as does whether its way is allowed for that.
    ///
    /// # Errors
    /// As [`PeerStream::respond`], where the caller begins in a way that all policies exclude.
    pub fn respond_for_any(
        &mut self,
        torrents: &[(InfoHash, Encryption)],
    ) -> Result<Option<InfoHash>, DisconnectReason> {
        // Neither beginning is shorter than a plain handshake, so that nothing is taken of what follows.
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
            if torrents.iter().all(|(_, policy)| *policy == Encryption::Require) {
                return Err(DisconnectReason::Handshake("not encrypted"));
            }
            self.early.extend_from_slice(begun);
            return Ok(None);
        }
        let encrypted = |&(swarm, policy): &(InfoHash, Encryption)| policy.methods().map(|methods| (swarm, methods));
        let torrents: Vec<_> = torrents.iter().filter_map(encrypted).collect();
        if torrents.is_empty() {
            return Err(OTHER_PROTOCOL);
        }
        let mut mse = Responder::for_any_torrent(torrents, RandomSource::new(&mut Random::system()));
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

    /// Receives the other side's handshake as far as the swarm that it means. The rest may come only after our answer: trackers that
    /// check whether a peer can be reached wait for that, and never send more.
    ///
    /// # Errors
    /// Where it does not come in time, or something else comes.
    pub fn read_info_hash(&mut self) -> Result<InfoHash, DisconnectReason> {
        self.fill(handshake::INFO_HASH_END)?;
        self.early.first_chunk().and_then(Handshake::decode_info_hash).ok_or(OTHER_PROTOCOL)
    }

    /// Receives the other side's handshake, or what is left of it.
    ///
    /// # Errors
    /// Where it does not come in time, or something else comes.
    pub fn read_handshake(&mut self) -> Result<Handshake, DisconnectReason> {
        self.fill(handshake::LENGTH)?;
        let theirs = self.early.first_chunk().and_then(Handshake::decode).ok_or(OTHER_PROTOCOL)?;
        self.early.drain(..handshake::LENGTH);
        Ok(theirs)
    }

    /// Receives until so many bytes of the handshake are there.
    fn fill(&mut self, length: usize) -> Result<(), DisconnectReason> {
        while self.early.len() < length {
            if detect_plaintext(&self.early) == Some(false) {
                return Err(OTHER_PROTOCOL);
            }
            let mut bytes = [0; handshake::LENGTH];
            let missing = length - self.early.len();
            let room = bytes.get_mut(..missing).unwrap_or_default();
            let n = self.read(room)?;
            let news = room.get_mut(..n).unwrap_or_default();
            if let Some(ciphers) = &mut self.ciphers {
                ciphers.receiving.apply(news);
            }
            self.early.extend_from_slice(news);
        }
        Ok(())
    }

    /// Sends bytes of the payload.
    ///
    /// # Errors
    /// Where the socket does not take them in time.
    pub fn send(&mut self, bytes: &[u8]) -> Result<(), DisconnectReason> {
        let Some(ciphers) = &mut self.ciphers else { return self.write(bytes) };
        let mut bytes = bytes.to_vec();
        ciphers.sending.apply(&mut bytes);
        self.write(&bytes)
    }

    /// What is left when the handshakes are exchanged.
    pub fn finish(self) -> StreamState {
        StreamState { early: self.early, ciphers: self.ciphers }
    }

    /// One read for the key exchange, and what is to be said to it.
    fn exchange(
        &mut self,
        wanted: usize,
        advance: impl FnOnce(&[u8], &mut Vec<u8>) -> Result<usize, MseError>,
    ) -> Result<(), DisconnectReason> {
        let mut bytes = [0; CHUNK];
        let room = bytes.get_mut(..wanted.min(CHUNK)).unwrap_or_default();
        let n = self.read(room)?;
        let mut out = Vec::new();
        // All of it is taken: no more than wanted was read.
        advance(room.get(..n).unwrap_or_default(), &mut out)?;
        self.write(&out)
    }

    fn apply_outcome(&mut self, agreed: Option<MseOutcome>) {
        if let Some(agreed) = agreed {
            self.early = agreed.initial;
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
                    self.received.store(true, Ordering::Relaxed);
                    return Ok(n);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(DisconnectReason::io(&error)),
            }
        }
    }

    /// At most two KiB in all, which a new connection's buffers take at once: the deadline is looked at between, not within.
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
