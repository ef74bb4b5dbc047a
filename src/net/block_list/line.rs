//! One line of a block list. Pure.
//!
//! | Form | Example |
//! |---|---|
//! | P2P (`PeerGuardian`) | `Some organisation:1.2.3.0-1.2.3.255` |
//! | DAT (eMule) | `001.002.003.000 - 001.002.003.255 , 000 , Some organisation` |
//! | CIDR, or an address | `1.2.3.0/24`, `2001:db8::/32`, `1.2.3.4` |
//!
//! All of them may occur in one list, with IPv6 addresses as well. A line that starts with `#`, `;` or `//` is a comment, and so is
//! the text after ` #` or ` ;` in lines of the third form, as in the lists of Spamhaus.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use crate::net::block_list::AddressRange;

/// DAT lines with a greater access level allow their addresses.
const MAX_BLOCKED_LEVEL: u32 = 127;

/// The meaning of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BlockListLine {
    /// Nothing: it is blank, a comment, or allows its addresses.
    Nothing,
    /// It blocks these addresses.
    Range(AddressRange),
    /// It is of none of the forms.
    Invalid,
}

/// Parses a line. Names may be in any encoding.
pub fn parse(line: &[u8]) -> BlockListLine {
    let line = line.trim_ascii();
    if line.is_empty() || line.starts_with(b"#") || line.starts_with(b";") || line.starts_with(b"//") {
        return BlockListLine::Nothing;
    }
    if let Some((range, level)) = dat(line) {
        return if level > MAX_BLOCKED_LEVEL { BlockListLine::Nothing } else { BlockListLine::Range(range) };
    }
    let range = p2p(line).or_else(|| bare(without_comment(line)));
    range.map_or(BlockListLine::Invalid, BlockListLine::Range)
}

/// A range, its access level and a description, separated by commas.
fn dat(line: &[u8]) -> Option<(AddressRange, u32)> {
    let mut parts = line.splitn(3, |byte| *byte == b',');
    let (addresses, level) = (parts.next()?, parts.next()?);
    let level = std::str::from_utf8(level).ok()?.trim().parse().ok()?;
    let (first, last) = split_at_last(addresses, b'-')?;
    Some((range(address(first)?, address(last)?)?, level))
}

/// A name, a colon and a range. IPv6 addresses have colons, too, and so may names.
fn p2p(line: &[u8]) -> Option<AddressRange> {
    let (left, last) = split_at_last(line, b'-')?;
    let last = address(last)?;
    if last.is_ipv4() {
        let first = split_at_last(left, b':').map_or(left, |(_, first)| first);
        return range(address(first)?, last);
    }
    // The longest text that is an address not greater than the last one.
    let starts = std::iter::once(0).chain(left.iter().enumerate().filter(|(_, b)| **b == b':').map(|(at, _)| at + 1));
    let mut ranges = starts.filter_map(|at| range(address(left.get(at..)?)?, last));
    ranges.next()
}

/// A range, a network or an address.
fn bare(line: &[u8]) -> Option<AddressRange> {
    if let Some((first, last)) = split_at_last(line, b'-') {
        return range(address(first)?, address(last)?);
    }
    match split_at_last(line, b'/') {
        Some((ip, bits)) => network(address(ip)?, std::str::from_utf8(bits).ok()?.trim().parse().ok()?),
        None => address(line).and_then(|ip| range(ip, ip)),
    }
}

/// The addresses of a network, which any of them may name.
fn network(ip: IpAddr, bits: u32) -> Option<AddressRange> {
    match ip {
        IpAddr::V4(ip) => {
            let host = u32::MAX.checked_shr(bits).unwrap_or_default();
            (bits <= 32).then(|| AddressRange::V4(ip.to_bits() & !host, ip.to_bits() | host))
        }
        IpAddr::V6(ip) => {
            let host = u128::MAX.checked_shr(bits).unwrap_or_default();
            let (first, last) = (ip.to_bits() & !host, ip.to_bits() | host);
            range(Ipv6Addr::from_bits(first).into(), Ipv6Addr::from_bits(last).into()).filter(|_| bits <= 128)
        }
    }
}

/// The range between two addresses of the same family in the right order. One of `::ffff:a.b.c.d` is one of IPv4.
fn range(first: IpAddr, last: IpAddr) -> Option<AddressRange> {
    match (first.to_canonical(), last.to_canonical()) {
        (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => {
            Some(AddressRange::V4(first.to_bits(), last.to_bits()))
        }
        (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => {
            Some(AddressRange::V6(first.to_bits(), last.to_bits()))
        }
        _ => None,
    }
}

fn address(text: &[u8]) -> Option<IpAddr> {
    let text = text.trim_ascii();
    ipv4(text).map(IpAddr::V4).or_else(|| Ipv6Addr::from_str(std::str::from_utf8(text).ok()?).ok().map(IpAddr::V6))
}

/// An IPv4 address, which may have zeros at the start of its numbers: DAT lists fill them up to three digits, and mean decimal
/// numbers.
fn ipv4(text: &[u8]) -> Option<Ipv4Addr> {
    let mut bits: u32 = 0;
    let mut count = 0;
    for number in text.split(|byte| *byte == b'.') {
        if number.is_empty() || number.len() > 3 || !number.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let number = number.iter().fold(0, |sum, digit| sum * 10 + u32::from(digit - b'0'));
        bits = (bits << 8) | Some(number).filter(|number| *number < 256)?;
        count += 1;
        if count > 4 {
            return None;
        }
    }
    (count == 4).then(|| Ipv4Addr::from_bits(bits))
}

/// Without a comment at the end.
fn without_comment(line: &[u8]) -> &[u8] {
    let end = line.windows(2).position(|pair| matches!(pair, [b' ' | b'\t', b'#' | b';']));
    line.get(..end.unwrap_or(line.len())).unwrap_or_default().trim_ascii()
}

fn split_at_last(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().rposition(|byte| *byte == separator)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

#[cfg(test)]
mod tests;
