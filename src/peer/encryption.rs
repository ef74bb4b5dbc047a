//! How a connection begins: plainly or with message stream encryption, and the handshake of BEP 3 through either. The thin rim
//! around `wire::mse`: it lends it a socket, within one deadline for all of it however the bytes drip.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::mse::{Agreed, Ciphers, Draw, Initiator, Methods, MseError, Responder, begins_plain};
use crate::peer::connection::Gone;
use crate::types::{Encryption, InfoHash, Opening};
use crate::util::random::Random;
use crate::wire::handshake::{self, Handshake};

/// Bytes read at a time during the handshake of MSE; it wants no more of them at once but for long initial payloads.
const CHUNK: usize = 256;
const OTHER: Gone = Gone::Handshake("another protocol");

impl Encryption {
    /// What may follow an encrypted handshake; `None` where there is none.
    fn methods(self) -> Option<Methods> {
        match self {
            Encryption::Prefer => Some(Methods::Either),
            Encryption::Require => Some(Methods::Rc4Only),
            Encryption::Off => None,
        }
    }
}

/// A connection whose handshake is under way.
pub struct Line<'a> {
    stream: &'a TcpStream,
    deadline: Instant,
    /// Set once anything has come.
    heard: &'a AtomicBool,
    /// Received, decrypted, and not yet looked at.
    early: Vec<u8>,
    /// Once they are agreed; `None` while or where the connection is plain.
    ciphers: Option<Ciphers>,
}

/// What the reader and the writer go on with.
#[derive(Debug, Default)]
pub struct Rest {
    /// What has come behind the handshake, decrypted.
    pub early: Vec<u8>,
    /// For all that follows; `None` where the connection is plain.
    pub ciphers: Option<Ciphers>,
}

impl<'a> Line<'a> {
    /// A line on which nothing has been said; the handshake must be over by `deadline`. `heard` is set once anything comes.
    pub fn new(stream: &'a TcpStream, deadline: Instant, heard: &'a AtomicBool) -> Line<'a> {
        Line { stream, deadline, heard, early: Vec::new(), ciphers: None }
    }

    /// A connection on which somebody else has received the other side's handshake, or the start of it.
    pub fn resume(stream: &'a TcpStream, deadline: Instant, heard: &'a AtomicBool, rest: Rest) -> Line<'a> {
        heard.store(true, Ordering::Relaxed);
        Line { stream, deadline, heard, early: rest.early, ciphers: rest.ciphers }
    }

    /// The caller's part: our handshake, in the clear or as the first bytes behind a key exchange.
    ///
    /// # Errors
    /// Where the other side does not answer in time or as it should, or `policy` has no such opening.
    pub fn open(&mut self, opening: Opening, policy: Encryption, ours: &Handshake) -> Result<(), Gone> {
        match (opening, policy.methods()) {
            (Opening::Plain, _) if policy == Encryption::Require => Err(Gone::Handshake("not encrypted")),
            (Opening::Plain, _) => self.say(&ours.encode()),
            (Opening::Encrypted, None) => Err(Gone::Handshake("encrypted")),
            (Opening::Encrypted, Some(methods)) => {
                let (draw, mut out) = (Draw::new(&mut Random::system()), Vec::new());
                let mut mse = Initiator::new(ours.info_hash, methods, &ours.encode(), draw, &mut out);
                self.write(&out)?;
                while mse.wanted() > 0 {
                    self.exchange(mse.wanted(), |bytes, out| mse.advance(bytes, out))?;
                }
                self.agree(mse.finish());
                Ok(())
            }
        }
    }

    /// The called side's part: finds out how the caller begins, and exchanges keys where it wants that. Its handshake comes next.
    ///
    /// # Errors
    /// Where the caller does not go on in time or as it should, or begins in a way that `policy` excludes.
    pub fn answer(&mut self, policy: Encryption, info_hash: InfoHash) -> Result<(), Gone> {
        self.answer_for(&[(info_hash, policy)]).map(drop)
    }

    /// The same where the caller may mean any of several torrents, each with a policy of its own: the one that an encrypted
    /// caller means. What a plain one means stands in its handshake, as does whether its way is allowed for that.
    ///
    /// # Errors
    /// As [`Line::answer`], where the caller begins in a way that all policies exclude.
    pub fn answer_for(&mut self, swarms: &[(InfoHash, Encryption)]) -> Result<Option<InfoHash>, Gone> {
        // Neither beginning is shorter than a plain handshake, so that nothing is taken of what follows.
        let mut bytes = [0; handshake::LENGTH];
        let mut filled = 0;
        let plain = loop {
            match bytes.get_mut(filled..) {
                Some(room) if !room.is_empty() => filled += self.read(room)?,
                _ => break false,
            }
            if let Some(plain) = begins_plain(bytes.get(..filled).unwrap_or_default()) {
                break plain;
            }
        };
        let begun = bytes.get(..filled).unwrap_or_default();
        if plain {
            if swarms.iter().all(|(_, policy)| *policy == Encryption::Require) {
                return Err(Gone::Handshake("not encrypted"));
            }
            self.early.extend_from_slice(begun);
            return Ok(None);
        }
        let encrypted = |&(swarm, policy): &(InfoHash, Encryption)| policy.methods().map(|methods| (swarm, methods));
        let swarms: Vec<_> = swarms.iter().filter_map(encrypted).collect();
        if swarms.is_empty() {
            return Err(OTHER);
        }
        let mut mse = Responder::for_any(swarms, Draw::new(&mut Random::system()));
        let mut out = Vec::new();
        mse.advance(begun, &mut out)?;
        self.write(&out)?;
        while mse.wanted() > 0 {
            self.exchange(mse.wanted(), |bytes, out| mse.advance(bytes, out))?;
        }
        let meant = mse.meant();
        self.agree(mse.finish());
        Ok(meant)
    }

    /// Receives the other side's handshake as far as the swarm that it means. The rest may come only after our answer: trackers that
    /// check whether a peer can be reached wait for that, and never send more.
    ///
    /// # Errors
    /// Where it does not come in time, or something else comes.
    pub fn hear_swarm(&mut self) -> Result<InfoHash, Gone> {
        self.fill(handshake::HEAD)?;
        self.early.first_chunk().and_then(Handshake::decode_swarm).ok_or(OTHER)
    }

    /// Receives the other side's handshake, or what is left of it.
    ///
    /// # Errors
    /// Where it does not come in time, or something else comes.
    pub fn hear(&mut self) -> Result<Handshake, Gone> {
        self.fill(handshake::LENGTH)?;
        let theirs = self.early.first_chunk().and_then(Handshake::decode).ok_or(OTHER)?;
        self.early.drain(..handshake::LENGTH);
        Ok(theirs)
    }

    /// Receives until so many bytes of the handshake are there.
    fn fill(&mut self, length: usize) -> Result<(), Gone> {
        while self.early.len() < length {
            if begins_plain(&self.early) == Some(false) {
                return Err(OTHER);
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
    pub fn say(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        let Some(ciphers) = &mut self.ciphers else { return self.write(bytes) };
        let mut bytes = bytes.to_vec();
        ciphers.sending.apply(&mut bytes);
        self.write(&bytes)
    }

    /// What is left when the handshakes are exchanged.
    pub fn finish(self) -> Rest {
        Rest { early: self.early, ciphers: self.ciphers }
    }

    /// One read for the key exchange, and what is to be said to it.
    fn exchange(
        &mut self,
        wanted: usize,
        advance: impl FnOnce(&[u8], &mut Vec<u8>) -> Result<usize, MseError>,
    ) -> Result<(), Gone> {
        let mut bytes = [0; CHUNK];
        let room = bytes.get_mut(..wanted.min(CHUNK)).unwrap_or_default();
        let n = self.read(room)?;
        let mut out = Vec::new();
        // All of it is taken: no more than wanted was read.
        advance(room.get(..n).unwrap_or_default(), &mut out)?;
        self.write(&out)
    }

    fn agree(&mut self, agreed: Option<Agreed>) {
        if let Some(agreed) = agreed {
            self.early = agreed.initial;
            self.ciphers = agreed.ciphers;
        }
    }

    fn left(&self) -> Result<Duration, Gone> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        if left.is_zero() { Err(Gone::Silent) } else { Ok(left) }
    }

    fn read(&mut self, room: &mut [u8]) -> Result<usize, Gone> {
        loop {
            self.stream.set_read_timeout(Some(self.left()?)).map_err(|e| Gone::io(&e))?;
            let mut stream = self.stream;
            match stream.read(room) {
                Ok(0) => return Err(Gone::Closed),
                Ok(n) => {
                    self.heard.store(true, Ordering::Relaxed);
                    return Ok(n);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(Gone::io(&error)),
            }
        }
    }

    /// At most two KiB in all, which a new connection's buffers take at once: the deadline is looked at between, not within.
    fn write(&mut self, bytes: &[u8]) -> Result<(), Gone> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.stream.set_write_timeout(Some(self.left()?)).map_err(|e| Gone::io(&e))?;
        let mut stream = self.stream;
        stream.write_all(bytes).map_err(|e| Gone::io(&e))
    }
}

#[cfg(test)]
mod tests;
