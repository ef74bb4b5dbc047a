//! The side that accepts the connection.

use crate::mse::expected_input::ExpectedInput;
use crate::mse::keys::{KEY_LENGTH, KeyMaterial, Secret};
use crate::mse::{Ciphers, CryptoMethods, MAX_INITIAL, MseError, MseOutcome, VC, pad_length, u16_at, u32_at};
use crate::types::InfoHash;

/// Finds the torrent that has an [`obfuscated_info_hash`](crate::mse::obfuscated_info_hash), with the methods we accept for it.
type TorrentLookUp<'a> = Box<dyn Fn(&[u8; 20]) -> Option<(InfoHash, CryptoMethods)> + Send + 'a>;

/// The state machine of the accepting side. It sends nothing before it has received the initiator's whole public key.
pub struct Responder<'a> {
    key_material: KeyMaterial,
    /// The torrents that we offer.
    torrents: TorrentLookUp<'a>,
    chosen_torrent: Option<InfoHash>,
    part: ExpectedInput,
    stage: ResponderStage,
}

enum ResponderStage {
    /// Expects Ya.
    Key,
    /// Expects `PadA` and `HASH('req1', S)`.
    SyncMark(Secret),
    /// Expects the hash that identifies the torrent.
    Torrent(Secret),
    /// Expects VC, `crypto_provide` and the length of `PadC`. We accept these methods.
    Offer(Ciphers, CryptoMethods),
    /// Expects `PadC` and the length of `IA`. We select this method.
    Padding(Ciphers, u32),
    /// Expects `IA`.
    Initial(Ciphers, u32),
    Done(MseOutcome),
    Failed,
}

impl<'a> Responder<'a> {
    /// Waits for a handshake for the torrent `skey`.
    #[cfg(any(test, feature = "internals"))]
    pub fn new(skey: InfoHash, methods: CryptoMethods, key_material: KeyMaterial) -> Responder<'static> {
        let wanted = crate::mse::obfuscated_info_hash(skey);
        Responder::for_any_torrent(move |asked| (*asked == wanted).then_some((skey, methods)), key_material)
    }

    /// Waits for a handshake for any of the torrents that `torrents` finds by their
    /// [`obfuscated_info_hash`](crate::mse::obfuscated_info_hash), each with the methods we accept for it.
    pub fn for_any_torrent(
        torrents: impl Fn(&[u8; 20]) -> Option<(InfoHash, CryptoMethods)> + Send + 'a,
        key_material: KeyMaterial,
    ) -> Responder<'a> {
        Responder {
            key_material,
            torrents: Box::new(torrents),
            chosen_torrent: None,
            part: ExpectedInput::exactly(KEY_LENGTH),
            stage: ResponderStage::Key,
        }
    }

    /// The torrent that the initiator asks for; `None` until the hash that identifies it has arrived.
    pub fn chosen_torrent(&self) -> Option<InfoHash> {
        self.chosen_torrent
    }

    /// How many more bytes belong to the handshake at least; 0 when it is over. A caller that never reads more than this reads no
    /// payload.
    pub fn wanted(&self) -> usize {
        if matches!(self.stage, ResponderStage::Done(_) | ResponderStage::Failed) { 0 } else { self.part.wanted() }
    }

    /// Processes received bytes, appends the bytes to send to `out`, and returns how many bytes it took: all of them until the
    /// handshake is over.
    ///
    /// # Errors
    /// [`MseError`] if the other side violates the protocol. From then on the state machine takes no more bytes.
    pub fn advance(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, MseError> {
        let mut rest = bytes;
        while !matches!(self.stage, ResponderStage::Done(_) | ResponderStage::Failed) {
            match self.part.take(&mut rest) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    self.stage = ResponderStage::Failed;
                    return Err(error);
                }
            }
            let part = std::mem::replace(&mut self.part, ExpectedInput::exactly(0)).into_bytes();
            // A stage that fails leaves `Failed` behind.
            self.stage = match std::mem::replace(&mut self.stage, ResponderStage::Failed) {
                ResponderStage::Key => self.key(&part, out)?,
                ResponderStage::SyncMark(secret) => {
                    self.part = ExpectedInput::exactly(20);
                    ResponderStage::Torrent(secret)
                }
                ResponderStage::Torrent(secret) => self.torrent(&secret, &part)?,
                ResponderStage::Offer(ciphers, methods) => self.offer(ciphers, methods, part)?,
                ResponderStage::Padding(ciphers, selected) => self.padding(ciphers, selected, part)?,
                ResponderStage::Initial(ciphers, selected) => self.initial(ciphers, selected, part, out),
                over => over,
            };
        }
        Ok(bytes.len() - rest.len())
    }

    /// The outcome; `None` if the handshake is not complete.
    pub fn finish(self) -> Option<MseOutcome> {
        if let ResponderStage::Done(agreed) = self.stage { Some(agreed) } else { None }
    }

    fn key(&mut self, theirs: &[u8], out: &mut Vec<u8>) -> Result<ResponderStage, MseError> {
        let secret = self.key_material.secret(theirs)?;
        out.extend_from_slice(&self.key_material.public());
        out.extend_from_slice(&self.key_material.pad);
        self.part = ExpectedInput::padding_then(&secret.sync_mark());
        Ok(ResponderStage::SyncMark(secret))
    }

    fn torrent(&mut self, secret: &Secret, torrent_hash: &[u8]) -> Result<ResponderStage, MseError> {
        let (skey, methods) =
            (self.torrents)(&secret.obfuscated_info_hash(torrent_hash)).ok_or(MseError::AnotherTorrent)?;
        self.chosen_torrent = Some(skey);
        self.part = ExpectedInput::exactly(VC.len() + 4 + 2);
        let (sending, receiving) = (secret.responder_stream(skey), secret.initiator_stream(skey));
        Ok(ResponderStage::Offer(Ciphers { sending, receiving }, methods))
    }

    fn offer(
        &mut self,
        mut ciphers: Ciphers,
        methods: CryptoMethods,
        mut decrypted: Vec<u8>,
    ) -> Result<ResponderStage, MseError> {
        ciphers.receiving.apply(&mut decrypted);
        if !decrypted.starts_with(&VC) {
            return Err(MseError::Verification);
        }
        let selected = methods.select(u32_at(&decrypted, VC.len()))?;
        self.part = ExpectedInput::exactly(pad_length(u16_at(&decrypted, VC.len() + 4))? + 2);
        Ok(ResponderStage::Padding(ciphers, selected))
    }

    fn padding(
        &mut self,
        mut ciphers: Ciphers,
        selected: u32,
        mut decrypted: Vec<u8>,
    ) -> Result<ResponderStage, MseError> {
        ciphers.receiving.apply(&mut decrypted);
        let length = u16_at(&decrypted, decrypted.len().saturating_sub(2));
        if usize::from(length) > MAX_INITIAL {
            return Err(MseError::Initial(length));
        }
        self.part = ExpectedInput::exactly(usize::from(length));
        Ok(ResponderStage::Initial(ciphers, selected))
    }

    fn initial(
        &mut self,
        mut ciphers: Ciphers,
        selected: u32,
        mut initial: Vec<u8>,
        out: &mut Vec<u8>,
    ) -> ResponderStage {
        ciphers.receiving.apply(&mut initial);
        let mut message = Vec::with_capacity(14 + usize::from(self.key_material.zeros));
        message.extend_from_slice(&VC);
        message.extend_from_slice(&selected.to_be_bytes());
        message.extend_from_slice(&self.key_material.zeros.to_be_bytes());
        message.resize(message.len() + usize::from(self.key_material.zeros), 0);
        ciphers.sending.apply(&mut message);
        out.append(&mut message);
        ResponderStage::Done(MseOutcome::new(selected, ciphers, initial))
    }
}
