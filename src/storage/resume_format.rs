//! Encodes and decodes resume data: a SHA-1, then the bencoded dictionary that it covers.

use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use sha1::{Digest, Sha1};

use crate::bencode::validate;
use crate::storage::layout::Layout;
use crate::storage::resume::{ResumeData, ResumeDataError, Stamp};
use crate::types::{BLOCK_SIZE, Bitfield, InfoHash, PartialPiece, PieceIndex};

/// The format version that is written, and the only one that is read.
const VERSION: i64 = 1;
/// Bytes of a file's entry: number, size, both times, inode.
const FILE_ENTRY_LEN: usize = 36;
/// Bytes of an entry in `ours`: number, identity.
const OWNED_ENTRY_LEN: usize = 12;
/// The first byte of `blocks`: the format of its entries. Entries of another format are ignored.
const BLOCKS_FORM: u8 = 1;
/// Bytes of an entry in `blocks` before its bits: number of the piece, number of bytes that follow.
const PARTIAL_HEAD_LEN: usize = 6;
/// The maximum number of bytes besides the entries and the bitfield.
const MAX_OVERHEAD: usize = 512;
/// The length of the SHA-1 in front.
pub(super) const CHECKSUM_LEN: usize = 20;

/// The resume data as stored, after its SHA-1.
#[derive(Serialize, Deserialize)]
struct StoredResumeData {
    /// Earlier versions neither write nor read this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    blocks: Option<ByteBuf>,
    boot: String,
    files: ByteBuf,
    have: ByteBuf,
    info_hash: ByteBuf,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ours: Option<ByteBuf>,
    #[serde(default)]
    uploaded: i64,
    version: i64,
}

impl ResumeData {
    /// Whether these bytes are resume data, of any torrent.
    pub fn is_encoded(bytes: &[u8]) -> bool {
        bytes.split_at_checked(CHECKSUM_LEN).is_some_and(|(sum, body)| Sha1::digest(body).as_slice() == sum)
    }

    /// Encodes the resume data: a SHA-1, then the bencoded dictionary that it covers.
    pub fn encode(&self) -> Vec<u8> {
        let mut files = Vec::with_capacity(self.files.len() * FILE_ENTRY_LEN);
        for (number, stamp) in &self.files {
            files.extend(number.to_be_bytes());
            files.extend(stamp.size.to_be_bytes());
            files.extend(stamp.mtime.to_be_bytes());
            files.extend(stamp.ctime.to_be_bytes());
            files.extend(stamp.inode.to_be_bytes());
        }
        let kept = StoredResumeData {
            blocks: Some(&self.partial).filter(|partial| !partial.is_empty()).map(|partial| blocks_of(partial)),
            boot: self.boot.clone(),
            files: ByteBuf::from(files),
            have: ByteBuf::from(self.have.as_bytes()),
            info_hash: ByteBuf::from(self.info_hash.0),
            ours: self.owned_files.as_ref().map(|owned| {
                let bytes = owned
                    .iter()
                    .flat_map(|(file, identity)| [&file.to_be_bytes()[..], &identity.to_be_bytes()].concat());
                ByteBuf::from(bytes.collect::<Vec<u8>>())
            }),
            uploaded: i64::try_from(self.uploaded).unwrap_or(i64::MAX),
            version: VERSION,
        };
        // Strings and a number always encode; `decode` refuses empty data.
        let body = serde_bencode::to_bytes(&kept).unwrap_or_default();
        [Sha1::digest(&body).as_slice(), &body].concat()
    }

    /// The maximum length of this torrent's encoded resume data.
    pub fn max_encoded_size(layout: &Layout) -> usize {
        let pieces = layout.piece_count() as usize;
        // A piece of one block is never partial.
        let map = Some(layout.piece_length().div_ceil(BLOCK_SIZE)).filter(|blocks| *blocks > 1);
        let map = map.map_or(0, |blocks| PARTIAL_HEAD_LEN + blocks.div_ceil(8) as usize);
        let files = layout.files().len().saturating_mul(FILE_ENTRY_LEN + OWNED_ENTRY_LEN);
        pieces.saturating_mul(map).saturating_add(files).saturating_add(pieces.div_ceil(8) + MAX_OVERHEAD)
    }

    /// Parses the output of [`ResumeData::encode`] for a torrent of this layout. Drops partial pieces that do not fit the layout.
    ///
    /// # Errors
    /// If it is damaged, or of another version or another torrent's shape.
    pub fn decode(bytes: &[u8], layout: &Layout) -> Result<ResumeData, ResumeDataError> {
        let (files, pieces) = (layout.files().len(), layout.piece_count());
        if bytes.len() > ResumeData::max_encoded_size(layout) {
            return Err(ResumeDataError::TooLong(bytes.len()));
        }
        let (sum, body) = bytes.split_at_checked(CHECKSUM_LEN).ok_or(ResumeDataError::Checksum)?;
        if Sha1::digest(body).as_slice() != sum {
            return Err(ResumeDataError::Checksum);
        }
        validate::check(body)?;
        let kept: StoredResumeData =
            serde_bencode::from_bytes(body).map_err(|_| ResumeDataError::Field("a field is missing"))?;
        if kept.version != VERSION {
            return Err(ResumeDataError::Field("version"));
        }
        let info_hash =
            <[u8; 20]>::try_from(kept.info_hash.as_slice()).map_err(|_| ResumeDataError::Field("info-hash"))?;
        let have = Bitfield::from_wire(&kept.have, pieces).ok_or(ResumeDataError::Field("pieces"))?;
        let entries = kept.files.chunks(FILE_ENTRY_LEN).map(|entry| entry_of(entry, files));
        let files = entries.collect::<Option<_>>().ok_or(ResumeDataError::Field("files"))?;
        let owned = kept.ours.map(|owned| owned.chunks(OWNED_ENTRY_LEN).map(owned_of).collect::<Option<Vec<_>>>());
        let owned = owned.map(|owned| owned.ok_or(ResumeDataError::Field("ours"))).transpose()?;
        let uploaded = u64::try_from(kept.uploaded).unwrap_or_default();
        let partial = kept.blocks.map(|blocks| partial_of(&blocks, layout)).unwrap_or_default();
        Ok(ResumeData {
            info_hash: InfoHash(info_hash),
            boot: kept.boot,
            files,
            have,
            owned_files: owned,
            uploaded,
            partial,
        })
    }
}

/// Encodes the blocks of partial pieces.
fn blocks_of(partial: &[PartialPiece]) -> ByteBuf {
    let mut bytes = vec![BLOCKS_FORM];
    for partial in partial {
        // A piece of 4 GiB needs 32 KiB.
        let Ok(length) = u16::try_from(partial.as_bytes().len()) else { continue };
        bytes.extend(partial.piece.0.to_be_bytes());
        bytes.extend(length.to_be_bytes());
        bytes.extend(partial.as_bytes());
    }
    ByteBuf::from(bytes)
}

/// Parses the output of [`blocks_of`]. Drops entries that do not fit the torrent or repeat a piece.
fn partial_of(bytes: &[u8], layout: &Layout) -> Vec<PartialPiece> {
    let Some((&BLOCKS_FORM, mut rest)) = bytes.split_first() else { return Vec::new() };
    let mut found: Vec<PartialPiece> = Vec::new();
    while let Some((piece, length, after)) = head_of(rest)
        && let Some((map, after)) = after.split_at_checked(length)
    {
        rest = after;
        let blocks = layout.piece_size(piece).div_ceil(BLOCK_SIZE);
        let follows = found.last().is_none_or(|last| last.piece < piece);
        if let Some(partial) = PartialPiece::from_bytes(piece, map, blocks)
            && follows
            && (1..blocks).contains(&partial.count())
        {
            found.push(partial);
        }
    }
    found
}

/// The head of an entry in `blocks`, and the bytes after it.
fn head_of(bytes: &[u8]) -> Option<(PieceIndex, usize, &[u8])> {
    let (piece, rest) = bytes.split_first_chunk::<4>()?;
    let (length, rest) = rest.split_first_chunk::<2>()?;
    Some((PieceIndex(u32::from_be_bytes(*piece)), usize::from(u16::from_be_bytes(*length)), rest))
}

/// One entry in `ours`; `None` if it is truncated.
fn owned_of(entry: &[u8]) -> Option<(u32, u64)> {
    let (number, rest) = entry.split_first_chunk::<4>()?;
    let identity = <[u8; 8]>::try_from(rest).ok()?;
    Some((u32::from_be_bytes(*number), u64::from_be_bytes(identity)))
}

/// One file's entry; `None` if it is truncated or its number is out of range.
fn entry_of(entry: &[u8], files: usize) -> Option<(u32, Stamp)> {
    let (number, rest) = entry.split_first_chunk::<4>()?;
    let (size, rest) = rest.split_first_chunk::<8>()?;
    let (mtime, rest) = rest.split_first_chunk::<8>()?;
    let (ctime, rest) = rest.split_first_chunk::<8>()?;
    let inode = <[u8; 8]>::try_from(rest).ok()?;
    let number = u32::from_be_bytes(*number);
    let stamp = Stamp {
        size: u64::from_be_bytes(*size),
        mtime: i64::from_be_bytes(*mtime),
        ctime: i64::from_be_bytes(*ctime),
        inode: u64::from_be_bytes(inode),
    };
    ((number as usize) < files).then_some((number, stamp))
}
