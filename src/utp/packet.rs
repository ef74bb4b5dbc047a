//! Packets as bytes: a header of 20 bytes, a chain of extensions, data.

use crate::utp::seq_nr::SeqNr;

/// The bytes of a header without extensions.
pub const HEADER: usize = 20;
/// The extension that lists the packets received after a gap.
const SELECTIVE_ACK: u8 = 1;
/// An extension of this type that nobody knows fills a datagram up. Receivers skip unknown extensions.
const PADDING: u8 = 0x7f;
/// The most extensions that are skipped; enough to fill the largest datagram.
const MAX_EXTENSIONS: usize = 300;

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketKind {
    /// Data. Only an MTU probe has no payload; it takes a sequence number, too.
    Data = 0,
    /// The end of the sender's stream.
    Fin = 1,
    /// Acknowledgement without data; takes no sequence number.
    State = 2,
    /// The sender knows no such connection, or ends it at once.
    Reset = 3,
    /// The start of a connection.
    Syn = 4,
}

/// The fields of every packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UtpHeader {
    /// What the packet is for.
    pub kind: PacketKind,
    /// The id under which the receiver of the packet knows the connection; in a SYN, the sender's own.
    pub id: u16,
    /// The sender's clock in microseconds.
    pub timestamp: u32,
    /// `timestamp_difference_microseconds`: the one-way delay of the last packet that the sender has received; 0 before the first.
    pub delay: u32,
    /// How many bytes the sender's receive buffer has free.
    pub window: u32,
    /// The packet's own sequence number; in a State, that of the next packet.
    pub seq: SeqNr,
    /// The cumulative acknowledgement: the last packet before the first gap.
    pub ack: SeqNr,
}

/// A parsed packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UtpPacket<'a> {
    /// The fields of every packet.
    pub header: UtpHeader,
    /// The received packets after a gap: the lowest bit of the first byte is for `ack + 2`. Empty if there is no gap.
    pub sack: &'a [u8],
    /// The data.
    pub payload: &'a [u8],
}

/// Whether a datagram looks like one of uTP. Those of the DHT and of UDP trackers do not.
fn is_utp(datagram: &[u8]) -> bool {
    datagram.len() >= HEADER && datagram[0] & 0xf == 1 && datagram[0] >> 4 <= PacketKind::Syn as u8
}

/// Parses a datagram. None if it is not uTP, or malformed.
pub fn parse(datagram: &[u8]) -> Option<UtpPacket<'_>> {
    if !is_utp(datagram) {
        return None;
    }
    let short = |at: usize| u16::from_be_bytes([datagram[at], datagram[at + 1]]);
    let long = |at: usize| u32::from_be_bytes([datagram[at], datagram[at + 1], datagram[at + 2], datagram[at + 3]]);
    let kind = match datagram[0] >> 4 {
        0 => PacketKind::Data,
        1 => PacketKind::Fin,
        2 => PacketKind::State,
        3 => PacketKind::Reset,
        _ => PacketKind::Syn,
    };
    let header = UtpHeader {
        kind,
        id: short(2),
        timestamp: long(4),
        delay: long(8),
        window: long(12),
        seq: SeqNr(short(16)),
        ack: SeqNr(short(18)),
    };
    let (sack, payload) = extensions(datagram[1], &datagram[HEADER..])?;
    Some(UtpPacket { header, sack, payload })
}

/// Follows the chain of extensions from the first's type. Returns the selective acknowledgement and the rest of the datagram.
fn extensions(first: u8, mut rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut kind, mut sack): (u8, &[u8]) = (first, &[]);
    for _ in 0..MAX_EXTENSIONS {
        if kind == 0 {
            return Some((sack, rest));
        }
        let ([next, length], after) = rest.split_first_chunk()?;
        let (content, after) = after.split_at_checked(usize::from(*length))?;
        if kind == SELECTIVE_ACK {
            sack = content;
        }
        (kind, rest) = (*next, after);
    }
    None
}

/// Appends a header without extensions.
pub fn write_header(out: &mut Vec<u8>, header: &UtpHeader) {
    out.push((header.kind as u8) << 4 | 1);
    out.push(0);
    out.extend(header.id.to_be_bytes());
    out.extend(header.timestamp.to_be_bytes());
    out.extend(header.delay.to_be_bytes());
    out.extend(header.window.to_be_bytes());
    out.extend(header.seq.0.to_be_bytes());
    out.extend(header.ack.0.to_be_bytes());
}

/// Appends a header and a selective acknowledgement, of a multiple of 4 bytes and at most 252.
pub fn write_with_sack(out: &mut Vec<u8>, header: &UtpHeader, sack: &[u8]) {
    let start = out.len();
    write_header(out, header);
    if !sack.is_empty() {
        out[start + 1] = SELECTIVE_ACK;
        out.extend([0, sack.len() as u8]);
        out.extend(sack);
    }
}

/// Appends a header and, if there are to be at least two, `padding` bytes of extensions that say nothing.
pub fn write_padded(out: &mut Vec<u8>, header: &UtpHeader, mut padding: usize) {
    let start = out.len();
    write_header(out, header);
    let mut link = start + 1;
    while padding >= 2 {
        let whole = padding.min(257);
        // A single byte cannot be an extension of its own.
        let length = if padding - whole == 1 { whole - 3 } else { whole - 2 };
        out[link] = PADDING;
        link = out.len();
        out.extend([0, length as u8]);
        out.resize(out.len() + length, 0);
        padding -= length + 2;
    }
}

#[cfg(test)]
mod tests;
