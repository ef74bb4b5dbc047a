//! Reads responses: the time of `Retry-After`, and the body within its limit, decompressed.

use std::io::{self, Read};
use std::time::Duration;

use ureq::Body;
use ureq::http::header::{DATE, RETRY_AFTER};

use super::{error, url};
use crate::discovery::tracker::announce::seconds;
use crate::discovery::tracker::error::{Retry, TrackerError};
use crate::util::atomics::Amount;
use crate::util::gzip::{GZIP, decoder};

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

/// The bytes of a body that do not count against [`MAX_BODIES`], so that large bodies do not keep out the usual small ones.
const FREE: usize = 64 * 1024;
/// The most bytes that all bodies in memory may hold together beyond their first [`FREE`] ones. A torrent can have dozens of
/// announces in progress, each of which may stall with a long body.
const MAX_BODIES: usize = 16 * 1024 * 1024;
/// How much a body grows at a time.
const STEP: usize = 16 * 1024;

/// The bytes of all bodies of the process that count.
pub(super) static BODIES: Amount = Amount::new(0);

/// A response body, which counts against [`MAX_BODIES`] until it is dropped or complete.
struct ReadBody<'a> {
    bytes: Vec<u8>,
    counted: usize,
    all: Option<&'a Amount>,
}

impl ReadBody<'_> {
    fn new(all: Option<&Amount>) -> ReadBody<'_> {
        ReadBody { bytes: Vec::new(), counted: 0, all }
    }

    /// Appends what `reader` returns, at most `max` bytes; an error if there are more, or too many in all bodies.
    fn read(&mut self, mut reader: impl Read, max: u64) -> Result<(), BodyError> {
        loop {
            let len = self.bytes.len();
            let wanted = (len + STEP).saturating_sub(FREE);
            if let Some(all) = self.all
                && wanted > self.counted
            {
                let more = wanted - self.counted;
                self.counted = wanted;
                if all.add(more) + more > MAX_BODIES {
                    return Err(BodyError::TooMany);
                }
            }
            self.bytes.reserve_exact(STEP);
            if (&mut reader).take(STEP as u64).read_to_end(&mut self.bytes).map_err(BodyError::Io)? == 0 {
                return Ok(());
            }
            if self.bytes.len() as u64 > max {
                return Err(BodyError::TooLarge);
            }
        }
    }
}

impl Drop for ReadBody<'_> {
    fn drop(&mut self) {
        if let Some(all) = self.all {
            all.sub(self.counted);
        }
    }
}

/// Why a body cannot be read.
#[derive(Debug)]
enum BodyError {
    Io(io::Error),
    TooLarge,
    /// All bodies together are too large.
    TooMany,
}

impl BodyError {
    fn into_tracker_error(self, url: &str) -> TrackerError {
        match self {
            BodyError::Io(error) => error::from_ureq(ureq::Error::from(error), url),
            BodyError::TooLarge => TrackerError::TooLarge,
            BodyError::TooMany => TrackerError::Other("too many long responses are being received".into()),
        }
    }
}

/// Reads the body, but at most [`STEP`] bytes beyond the limit. `all` counts the bytes of all bodies; `None` for one that does not
/// count.
pub(super) fn read_body(
    response: ureq::http::Response<Body>,
    url: &str,
    max: u64,
    all: Option<&Amount>,
) -> Result<Vec<u8>, TrackerError> {
    let mut body = ReadBody::new(all);
    body.read(response.into_body().into_reader(), max).map_err(|error| error.into_tracker_error(url))?;
    if !body.bytes.starts_with(&GZIP) {
        return Ok(std::mem::take(&mut body.bytes));
    }
    // Servers do not always declare gzip, or use another name (`x-gzip`).
    let mut unpacked = ReadBody::new(all);
    match unpacked.read(decoder(&*body.bytes), max) {
        Err(BodyError::Io(_)) if unpacked.bytes.is_empty() => {
            Err(TrackerError::Malformed("it cannot be decompressed".into()))
        }
        // Ignore garbage after the compressed data.
        Ok(()) | Err(BodyError::Io(_)) => Ok(std::mem::take(&mut unpacked.bytes)),
        Err(error) => Err(error.into_tracker_error(url)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends zeros without end.
    fn endless() -> impl Read {
        io::repeat(0)
    }

    #[test]
    fn all_bodies_together_are_bounded() {
        let all = Amount::new(0);
        let mut large = Vec::new();
        let refused = loop {
            let mut body = ReadBody::new(Some(&all));
            match body.read(endless().take(1 << 20), 1 << 20) {
                Ok(()) => large.push(body),
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, BodyError::TooMany), "{refused:?}");
        let held: usize = large.iter().map(|body| body.bytes.capacity()).sum();
        assert!((8..=20).contains(&(held >> 20)), "{held}");
        // A body of the usual size is read nevertheless.
        let mut small = ReadBody::new(Some(&all));
        assert!(small.read(endless().take(30_000), 1 << 20).is_ok());
        assert_eq!(small.bytes.len(), 30_000);
        drop((large, small));
        assert_eq!(all.get(), 0, "nothing counts any more");
        assert!(matches!(ReadBody::new(Some(&all)).read(endless(), 100_000), Err(BodyError::TooLarge)));
        assert_eq!(all.get(), 0);
    }
}
