//! Requests to our HTTP server.

use btsync::http_server::{QueryString, RequestedRange, requested_range, requests_in};

const MAX_HEAD: usize = 8 * 1024;
const MAX_BODY: usize = 1000;

/// All requests of a connection. However the stream is split, the same requests and the same end follow. Limits hold.
pub fn http_server(bytes: &[u8]) -> bool {
    let (requests, refused) = requests_in(bytes, bytes.len(), MAX_HEAD, MAX_BODY);
    for step in [1, 3, 100] {
        let (again, refused_again) = requests_in(bytes, step, MAX_HEAD, MAX_BODY);
        let same = requests.iter().zip(&again).all(|(one, other)| {
            let path = one.head.path() == other.head.path() && one.head.query() == other.head.query();
            path && one.head.method() == other.head.method() && one.body == other.body
        });
        assert!(same && requests.len() == again.len(), "{} or {} requests", requests.len(), again.len());
        assert_eq!(refused, refused_again);
    }
    for request in &requests {
        let head = &request.head;
        assert!(request.body.len() <= MAX_BODY && !head.method().is_empty());
        assert!(head.path().starts_with('/') || head.path() == "*");
        assert!(head.header_values("Content-Length").count() + head.header_values("Transfer-Encoding").count() <= 1);
        assert!(head.header_values("Host").count() <= 1);
        let _ = QueryString::new(head.query().unwrap_or_default()).first("a");
        for length in [0, 1, 1000, u64::MAX] {
            if let RequestedRange::Part(range) = requested_range(head, length) {
                assert!(range.start < range.end && range.end <= length, "{range:?} of {length}");
            }
        }
    }
    assert!(refused.is_none_or(|status| matches!(status, 400 | 413 | 414 | 417 | 431 | 501 | 505)), "{refused:?}");
    !requests.is_empty()
}
