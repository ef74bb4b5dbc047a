//! Reads responses: the time of `Retry-After`, and the body within its limit, decompressed.

use std::io::Read as _;
use std::time::Duration;

use ureq::Body;
use ureq::http::header::{DATE, RETRY_AFTER};

use super::{error, url};
use crate::discovery::tracker::announce::{Retry, TrackerError, seconds};
use crate::util::gzip::{GZIP, gunzip};

/// The value of `Retry-After` (RFC 9110): seconds, or a date, which is relative to the server's own clock.
pub(super) fn retry_after(response: &ureq::http::Response<Body>) -> Option<Retry> {
    let text = response.headers().get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = text.parse().ok().and_then(seconds).or_else(|| retry_at(response, text))?;
    Some(Retry::After(wait))
}

/// The time from the response's `Date` to another date.
fn retry_at(response: &ureq::http::Response<Body>, date: &str) -> Option<Duration> {
    let now = url::http_date(response.headers().get(DATE)?.to_str().ok()?)?;
    seconds(url::http_date(date)? - now)
}

/// Reads the body, but never more than one byte beyond the limit.
pub(super) fn read_body(response: ureq::http::Response<Body>, url: &str, max: u64) -> Result<Vec<u8>, TrackerError> {
    let mut body = Vec::new();
    let mut reader = response.into_body().into_reader().take(max + 1);
    reader.read_to_end(&mut body).map_err(|e| error::from_ureq(ureq::Error::from(e), url))?;
    if body.len() as u64 > max {
        Err(TrackerError::TooLarge)
    } else if body.starts_with(&GZIP) {
        unpacked(&body, max)
    } else {
        Ok(body)
    }
}

/// Decompresses gzip. Servers do not always declare it, or use another name (`x-gzip`).
fn unpacked(packed: &[u8], max: u64) -> Result<Vec<u8>, TrackerError> {
    let mut body = Vec::new();
    let read = gunzip(packed, max + 1, &mut body);
    // Ignore garbage after the compressed data.
    if read.is_err() && body.is_empty() {
        return Err(TrackerError::Malformed("it cannot be decompressed".into()));
    }
    if body.len() as u64 > max { Err(TrackerError::TooLarge) } else { Ok(body) }
}
