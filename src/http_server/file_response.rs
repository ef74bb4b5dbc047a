//! Responses with plain files, for tests of the server: neither the service nor the tracker serves them.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use crate::http_server::request::RequestHead;
use crate::http_server::response::{Response, ResponseBody};
use crate::http_server::source::{BodySource, Pulled, Waker};

impl Response {
    /// A file as it is now, or the range of it that the request wants.
    ///
    /// # Errors
    /// If the length of the file cannot be read.
    pub fn file(head: &RequestHead, file: File, content_type: &'static str) -> io::Result<Response> {
        let length = file.metadata()?.len();
        Ok(Response::ranged(head, length, content_type, |range| {
            let length = Some(range.end.saturating_sub(range.start));
            ResponseBody::Source { source: Box::new(FileSource { file, range }), length }
        }))
    }
}

/// A part of a file.
#[derive(Debug)]
struct FileSource {
    file: File,
    range: Range<u64>,
}

impl BodySource for FileSource {
    fn pull(&mut self, max: usize, out: &mut Vec<u8>, _: &Waker) -> io::Result<Pulled> {
        let left = self.range.end.saturating_sub(self.range.start);
        if left == 0 {
            return Ok(Pulled::End);
        }
        let (before, wanted) = (out.len(), usize::try_from(left).unwrap_or(usize::MAX).min(max));
        out.resize(before + wanted, 0);
        let read = loop {
            match self.file.read_at(out.get_mut(before..).unwrap_or_default(), self.range.start) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read?,
            }
        };
        out.truncate(before + read);
        self.range.start += read as u64;
        if read == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(Pulled::Data) }
    }
}
