//! The side that opens the connection.

use crate::mse::expected_input::ExpectedInput;
use crate::mse::keys::{KEY_LENGTH, KeyMaterial};
use crate::mse::{Ciphers, CryptoMethods, MseError, MseOutcome, VC, pad_length, u16_at, u32_at};
use crate::types::InfoHash;

/// The state machine of the connecting side.
pub struct Initiator {
    key_material: KeyMaterial,
    skey: InfoHash,
    methods: CryptoMethods,
    /// `IA`, until it was sent.
    initial: Vec<u8>,
    part: ExpectedInput,
    stage: InitiatorStage,
}

enum InitiatorStage {
    /// Expects Yb.
    Key,
    /// Expects `PadB` and the encrypted VC.
    SyncMark(Ciphers),
    /// Expects `crypto_select` and the length of `PadD`.
    Selection(Ciphers),
    /// Expects `PadD`, after which this selected method applies.
    Padding(Ciphers, u32),
    Done(MseOutcome),
    Failed,
}

impl Initiator {
    /// Starts a handshake for the torrent `skey` and appends the first bytes to send to `out`. `initial` is the start of our
    /// payload, the plain handshake of BEP 3, and at most 65,535 bytes long. It is sent encrypted, whatever method is selected.
    pub fn new(
        skey: InfoHash,
        methods: CryptoMethods,
        initial: &[u8],
        key_material: KeyMaterial,
        out: &mut Vec<u8>,
    ) -> Initiator {
        out.extend_from_slice(&key_material.public());
        out.extend_from_slice(&key_material.pad);
        let initial = initial.to_vec();
        Initiator {
            key_material,
            skey,
            methods,
            initial,
            part: ExpectedInput::exactly(KEY_LENGTH),
            stage: InitiatorStage::Key,
        }
    }

    /// How many more bytes belong to the handshake at least; 0 when it is over. A caller that never reads more than this reads no
    /// payload.
    pub fn wanted(&self) -> usize {
        if matches!(self.stage, InitiatorStage::Done(_) | InitiatorStage::Failed) { 0 } else { self.part.wanted() }
    }

    /// Processes received bytes, appends the bytes to send to `out`, and returns how many bytes it took: all of them until the
    /// handshake is over.
    ///
    /// # Errors
    /// [`MseError`] if the other side violates the protocol. From then on the state machine takes no more bytes.
    pub fn advance(&mut self, bytes: &[u8], out: &mut Vec<u8>) -> Result<usize, MseError> {
        let mut rest = bytes;
        while !matches!(self.stage, InitiatorStage::Done(_) | InitiatorStage::Failed) {
            match self.part.take(&mut rest) {
                Ok(true) => {}
                Ok(false) => break,
                Err(error) => {
                    self.stage = InitiatorStage::Failed;
                    return Err(error);
                }
            }
            let mut part = std::mem::replace(&mut self.part, ExpectedInput::exactly(0)).into_bytes();
            // A stage that fails leaves `Failed` behind.
            self.stage = match std::mem::replace(&mut self.stage, InitiatorStage::Failed) {
                InitiatorStage::Key => self.key(&part, out)?,
                InitiatorStage::SyncMark(ciphers) => self.sync_mark(ciphers),
                InitiatorStage::Selection(ciphers) => self.selection(ciphers, part)?,
                InitiatorStage::Padding(mut ciphers, selected) => {
                    ciphers.receiving.apply(&mut part);
                    InitiatorStage::Done(MseOutcome::new(selected, ciphers, Vec::new()))
                }
                over => over,
            };
        }
        Ok(bytes.len() - rest.len())
    }

    /// The outcome; `None` if the handshake is not complete.
    pub fn finish(self) -> Option<MseOutcome> {
        if let InitiatorStage::Done(agreed) = self.stage { Some(agreed) } else { None }
    }

    fn key(&mut self, theirs: &[u8], out: &mut Vec<u8>) -> Result<InitiatorStage, MseError> {
        let secret = self.key_material.secret(theirs)?;
        let mut ciphers =
            Ciphers { sending: secret.initiator_stream(self.skey), receiving: secret.responder_stream(self.skey) };
        out.extend_from_slice(&secret.sync_mark());
        out.extend_from_slice(&secret.torrent(self.skey));
        let zeros = usize::from(self.key_material.zeros);
        let initial = std::mem::take(&mut self.initial);
        let mut message = Vec::with_capacity(16 + zeros + initial.len());
        message.extend_from_slice(&VC);
        message.extend_from_slice(&self.methods.bits().to_be_bytes());
        message.extend_from_slice(&self.key_material.zeros.to_be_bytes());
        message.resize(message.len() + zeros, 0);
        message.extend_from_slice(&(initial.len() as u16).to_be_bytes());
        message.extend_from_slice(&initial);
        ciphers.sending.apply(&mut message);
        out.append(&mut message);
        // Encrypting eight zeros yields the keystream itself, which is the mark to search for.
        let mut sync_mark = VC;
        ciphers.receiving.clone().apply(&mut sync_mark);
        self.part = ExpectedInput::padding_then(&sync_mark);
        Ok(InitiatorStage::SyncMark(ciphers))
    }

    fn sync_mark(&mut self, mut ciphers: Ciphers) -> InitiatorStage {
        ciphers.receiving.apply(&mut VC.clone());
        self.part = ExpectedInput::exactly(4 + 2);
        InitiatorStage::Selection(ciphers)
    }

    fn selection(&mut self, mut ciphers: Ciphers, mut decrypted: Vec<u8>) -> Result<InitiatorStage, MseError> {
        ciphers.receiving.apply(&mut decrypted);
        let selected = u32_at(&decrypted, 0);
        if selected.count_ones() != 1 || selected & self.methods.bits() == 0 {
            return Err(MseError::Selected(selected));
        }
        self.part = ExpectedInput::exactly(pad_length(u16_at(&decrypted, 4))?);
        Ok(InitiatorStage::Padding(ciphers, selected))
    }
}
