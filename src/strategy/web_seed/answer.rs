//! What a web seed's response means: what its body contains, or what is wrong with it.

use std::ops::Range;
use std::time::Duration;

/// The facts of a response that decide what it means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeAnswer {
    /// The status.
    pub status: u16,
    /// The length of the body, if the server states it.
    pub content_length: Option<u64>,
    /// The value of `Content-Range`.
    pub content_range: Option<String>,
    /// Whether the body is or was compressed, although we asked for it as it is.
    pub is_encoded: bool,
    /// The value of `Retry-After`.
    pub retry_after: Option<Duration>,
}

/// What a body contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyContent {
    /// The requested bytes, or the first of them.
    Requested,
    /// The whole file: the server ignored the range.
    WholeFile,
}

/// What is wrong with a response, or with a request that got none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WebSeedFault {
    /// The server cannot be reached, or the response broke off.
    #[error("{0}")]
    Unreachable(String),
    /// The server sends hardly anything, and other sources were asked for the rest.
    #[error("the server is much slower than before")]
    Stalled,
    /// The server failed.
    #[error("HTTP status {0}")]
    ServerError(u16),
    /// The server asks us to come later.
    #[error("the server is busy")]
    Busy(Option<Duration>),
    /// The server does not have the file.
    #[error("HTTP status {0}")]
    NoFile(u16),
    /// The server's file has another length.
    #[error("its file has another length than that of the torrent")]
    WrongLength,
    /// The server sent another range than the one that was requested.
    #[error("it sends other bytes than requested")]
    WrongRange,
    /// Part of a compressed file, which is of no use.
    #[error("it sends compressed ranges")]
    Compressed,
    /// The server refuses, or the URL cannot be used.
    #[error("{0}")]
    Refused(String),
    /// The data is not that of the torrent.
    #[error("its data is not that of the torrent")]
    WrongData,
}

/// Judges the response to a request for the bytes `range` of a file of `length` bytes (BEP 19).
///
/// # Errors
/// If the body is of no use.
pub fn judge(answer: &RangeAnswer, range: &Range<u64>, length: u64) -> Result<BodyContent, WebSeedFault> {
    match answer.status {
        206 if answer.is_encoded => Err(WebSeedFault::Compressed),
        206 => judge_part(answer, range, length),
        200 if !answer.is_encoded && answer.content_length.is_some_and(|stated| stated != length) => {
            Err(WebSeedFault::WrongLength)
        }
        200 => Ok(BodyContent::WholeFile),
        status => Err(fault(status, answer)),
    }
}

fn judge_part(answer: &RangeAnswer, range: &Range<u64>, length: u64) -> Result<BodyContent, WebSeedFault> {
    // Without the header, or with one that makes no sense, the body may be anything.
    let stated = answer.content_range.as_deref().and_then(content_range).ok_or(WebSeedFault::WrongRange)?;
    if stated.of.is_some_and(|of| of != length) {
        return Err(WebSeedFault::WrongLength);
    }
    let is_length_right = answer.content_length.is_none_or(|body| body == stated.bytes.end - stated.bytes.start);
    // A server may send less than requested.
    if stated.bytes.start != range.start || stated.bytes.end > range.end || !is_length_right {
        return Err(WebSeedFault::WrongRange);
    }
    Ok(BodyContent::Requested)
}

/// Judges the response of a script that was asked for `length` bytes (BEP 17). `retry` is the body of a 503: the seconds to wait.
///
/// # Errors
/// If the body is of no use.
pub fn judge_script(answer: &RangeAnswer, length: u64, retry: &[u8]) -> Result<(), WebSeedFault> {
    match answer.status {
        200 | 206 if answer.content_length.is_some_and(|stated| stated != length) => Err(WebSeedFault::WrongRange),
        200 | 206 => Ok(()),
        503 => {
            let seconds = std::str::from_utf8(retry).ok().and_then(|text| text.trim().parse().ok());
            Err(WebSeedFault::Busy(answer.retry_after.or(seconds.map(Duration::from_secs))))
        }
        status => Err(fault(status, answer)),
    }
}

fn fault(status: u16, answer: &RangeAnswer) -> WebSeedFault {
    match status {
        429 | 503 => WebSeedFault::Busy(answer.retry_after),
        404 | 410 => WebSeedFault::NoFile(status),
        416 => WebSeedFault::WrongLength,
        408 | 500.. => WebSeedFault::ServerError(status),
        _ => WebSeedFault::Refused(format!("HTTP status {status}")),
    }
}

/// The value of a `Content-Range` header.
#[derive(Debug, PartialEq, Eq)]
struct ContentRange {
    bytes: Range<u64>,
    /// The length of the whole file, if the server knows it.
    of: Option<u64>,
}

/// Reads a `Content-Range` such as `bytes 0-499/1234`.
fn content_range(text: &str) -> Option<ContentRange> {
    let (unit, rest) = text.trim().split_once([' ', '='])?;
    let (range, of) = rest.trim().split_once('/')?;
    let (first, last) = range.trim().split_once('-')?;
    let (first, last): (u64, u64) = (number(first)?, number(last)?);
    let of = if of.trim() == "*" { None } else { Some(number(of)?) };
    let is_sound = unit.eq_ignore_ascii_case("bytes") && first <= last && of.is_none_or(|of| last < of);
    is_sound.then(|| Some(ContentRange { bytes: first..last.checked_add(1)?, of }))?
}

fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(content_range: &str, content_length: Option<u64>) -> RangeAnswer {
        RangeAnswer {
            status: 206,
            content_length,
            content_range: Some(content_range.to_owned()),
            ..RangeAnswer::default()
        }
    }

    fn status(status: u16) -> RangeAnswer {
        RangeAnswer { status, ..RangeAnswer::default() }
    }

    #[test]
    fn the_right_part_is_taken() {
        let taken = Ok(BodyContent::Requested);
        for (range, length) in [
            ("bytes 100-199/1000", Some(100)),
            ("bytes 100-199/1000", None),
            ("bytes 100-199/*", Some(100)),
            ("Bytes=100-199/1000", Some(100)),
            ("bytes 100-149/1000", Some(50)),
        ] {
            assert_eq!(judge(&part(range, length), &(100..200), 1000), taken, "{range}");
        }
    }

    #[test]
    fn other_parts_and_headers_without_sense_are_refused() {
        for (range, length) in [
            ("bytes 0-99/1000", Some(100)),
            ("bytes 101-200/1000", Some(100)),
            ("bytes 100-200/1000", Some(101)),
            ("bytes 100-199/1000", Some(99)),
            ("bytes 199-100/1000", Some(100)),
            ("bytes 100-/1000", None),
            ("bytes */1000", None),
            ("bytes 100-199", None),
            ("items 100-199/1000", None),
            ("bytes +100-199/1000", None),
            ("bytes 100-18446744073709551615/*", None),
            ("bytes 100-99999999999999999999/*", None),
            ("", None),
        ] {
            assert_eq!(judge(&part(range, length), &(100..200), 1000), Err(WebSeedFault::WrongRange), "{range}");
        }
        assert_eq!(judge(&status(206), &(0..1), 1), Err(WebSeedFault::WrongRange), "no header");
    }

    #[test]
    fn a_file_of_another_length_is_not_ours() {
        let wrong = Err(WebSeedFault::WrongLength);
        assert_eq!(judge(&part("bytes 100-199/1001", Some(100)), &(100..200), 1000), wrong);
        let whole = |content_length| RangeAnswer { content_length, ..status(200) };
        assert_eq!(judge(&whole(Some(999)), &(100..200), 1000), wrong);
        assert_eq!(judge(&status(416), &(100..200), 1000), wrong);
        for length in [Some(1000), None] {
            assert_eq!(judge(&whole(length), &(100..200), 1000), Ok(BodyContent::WholeFile));
        }
    }

    /// The HTTP client unpacks a compressed body. A whole file is then right; its length before that is not ours.
    #[test]
    fn compressed_parts_are_useless_but_whole_files_are_not() {
        let encoded = RangeAnswer { is_encoded: true, ..part("bytes 100-199/1000", None) };
        assert_eq!(judge(&encoded, &(100..200), 1000), Err(WebSeedFault::Compressed));
        let whole = RangeAnswer { is_encoded: true, content_length: Some(7), ..status(200) };
        assert!(judge(&whole, &(100..200), 1000).is_ok());
    }

    #[test]
    fn each_status_has_its_meaning() {
        let of = |code| judge(&status(code), &(0..1), 1).unwrap_err();
        for code in [404, 410] {
            assert_eq!(of(code), WebSeedFault::NoFile(code));
        }
        for code in [408, 500, 502, 504, 599] {
            assert_eq!(of(code), WebSeedFault::ServerError(code));
        }
        for code in [201, 204, 304, 400, 401, 403, 451] {
            assert!(matches!(of(code), WebSeedFault::Refused(_)), "{code}");
        }
        let later = RangeAnswer { retry_after: Some(Duration::from_secs(7)), ..status(429) };
        assert_eq!(judge(&later, &(0..1), 1), Err(WebSeedFault::Busy(Some(Duration::from_secs(7)))));
        assert_eq!(of(503), WebSeedFault::Busy(None));
    }

    #[test]
    fn a_script_says_in_its_body_when_to_come_again() {
        let busy = |body: &[u8]| judge_script(&status(503), 5, body).unwrap_err();
        assert_eq!(busy(b" 30\r\n"), WebSeedFault::Busy(Some(Duration::from_secs(30))));
        for body in [&b"<html>"[..], b"", b"-1", b"\xff"] {
            assert_eq!(busy(body), WebSeedFault::Busy(None));
        }
        let with = |content_length| RangeAnswer { content_length, ..status(200) };
        assert_eq!(judge_script(&with(Some(5)), 5, b""), Ok(()));
        assert_eq!(judge_script(&with(None), 5, b""), Ok(()));
        assert_eq!(judge_script(&with(Some(6)), 5, b""), Err(WebSeedFault::WrongRange));
        assert_eq!(judge_script(&status(404), 5, b""), Err(WebSeedFault::NoFile(404)));
    }
}
