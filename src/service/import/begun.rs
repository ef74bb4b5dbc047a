//! Which files another client has begun: of a file without a single byte of its own, it may never have written to the file on disk.

use std::ops::Range;

use crate::metainfo::Metainfo;

/// The size of a block in the resume data of both clients.
pub(super) const BLOCK: u64 = 16 << 10;

/// The files of which the other client has some bytes and not all, by their indexes. `have` are ranges of the torrent's bytes, in order
/// and without overlaps.
pub(super) fn begun_files(metainfo: &Metainfo, have: impl Iterator<Item = Range<u64>>) -> Vec<u32> {
    let mut have = have.peekable();
    let (mut begun, mut start) = (Vec::new(), 0);
    for (index, file) in (0_u32..).zip(&metainfo.files) {
        let end = start + file.length;
        let mut bytes = 0;
        while let Some(range) = have.peek() {
            bytes += range.end.min(end).saturating_sub(range.start.max(start));
            if range.end > end {
                break;
            }
            have.next();
        }
        if bytes > 0 && bytes < file.length && !file.is_virtual {
            begun.push(index);
        }
        start = end;
    }
    begun
}

/// Joins ranges that touch or overlap; they are in the order of their starts.
pub(super) fn merged(ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut merged: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match merged.last_mut().filter(|last| range.start <= last.end) {
            Some(last) => last.end = last.end.max(range.end),
            None => merged.push(range),
        }
    }
    merged
}

/// The ranges of the bits that are set, the highest bit of each byte first; each bit stands for `size` bytes.
pub(super) fn ranges(bits: &[u8], size: u64) -> impl Iterator<Item = Range<u64>> {
    let set =
        bits.iter().enumerate().flat_map(|(at, byte)| (0..8).map(move |bit| (at * 8 + bit, byte & (0x80 >> bit) != 0)));
    set.filter(|(_, is_set)| *is_set).map(move |(number, _)| {
        let start = number as u64 * size;
        start..start.saturating_add(size)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_with_some_of_its_bytes_is_begun() {
        let torrent = b"d4:infod5:filesld6:lengthi20000e4:pathl1:aeed6:lengthi0e4:pathl1:eeed6:lengthi30000e4:pathl1:beed6:lengthi5e4:pathl1:ceee4:name1:n12:piece lengthi16384e6:pieces80:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaee";
        let metainfo = Metainfo::parse(torrent).expect("a torrent");
        for (bits, expected) in [
            (0b0000_0000, &[][..]),
            (0b1000_0000, &[0]),
            (0b0100_0000, &[0, 2]),
            (0b1100_0000, &[2]),
            (0b0010_0000, &[2]),
            (0b0001_0000, &[2]),
            (0b1111_0000, &[]),
            (0b1110_0000, &[2]),
        ] {
            assert_eq!(begun_files(&metainfo, ranges(&[bits], BLOCK)), expected, "{bits:08b}");
        }
    }
}
