use super::*;

fn of(text: &str) -> Result<ParsedHead, RequestError> {
    assert_eq!(find_end(text.as_bytes(), 0), Some(text.len()), "{text:?}");
    parse(text.into(), ClientAddress::Unix)
}

/// A request with these header lines.
fn with(lines: &str) -> Result<ParsedHead, RequestError> {
    of(&format!("POST /x HTTP/1.1\r\n{lines}\r\n\r\n"))
}

fn refusal(request: Result<ParsedHead, RequestError>) -> u16 {
    request.map_or_else(|refusal| refusal.status, |parsed| panic!("accepted: {parsed:?}"))
}

#[test]
fn a_head_has_its_parts() {
    let parsed = of("GET /a%20b/c?d=e?f HTTP/1.1\r\nHost: x\r\nX-Y:  a b \t\r\nx-y: second\r\nEmpty:\r\n\r\n").unwrap();
    let head = &parsed.head;
    assert_eq!((head.method(), head.path(), head.query()), ("GET", "/a%20b/c", Some("d=e?f")));
    assert_eq!((head.header("HOST"), head.header("x-y"), head.header("Empty")), (Some("x"), Some("a b"), Some("")));
    assert_eq!(head.header_values("X-Y").count(), 2);
    assert_eq!(head.header("z"), None);
    assert!(parsed.keeps_alive && !parsed.expects_continue && parsed.framing == Framing::Length(0));
    let plain = of("GET / HTTP/1.0\r\n\r\n").unwrap();
    assert!(!plain.keeps_alive && plain.head.query().is_none() && plain.head.is_http_1_0);
    assert!(!with("Connection: keep-alive, Close").unwrap().keeps_alive);
    assert!(with("Connection: keep-alive").unwrap().keeps_alive);
    assert!(with("Expect: 100-Continue").unwrap().expects_continue);
    assert_eq!(refusal(with("Expect: the-unexpected")), 417);
}

#[test]
fn the_end_of_a_head_is_found_in_any_pieces() {
    let text = b"GET / HTTP/1.1\r\nA: b\r\n\r\nrest\r\n\r\n";
    let end = text.len() - 8;
    for length in 0..text.len() {
        assert_eq!(find_end(&text[..length], 0), (length >= end).then_some(end), "{length}");
        assert_eq!(find_end(text, length.min(end - 4)), Some(end));
    }
    assert_eq!(find_end(b"a\n\nb", 0), Some(3));
    assert_eq!(find_end(b"a\r\r\n\r", 0), None);
}

#[test]
fn lines_end_with_carriage_return_and_line_feed() {
    for text in [
        "GET / HTTP/1.1\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n\n",
        "GET / HTTP/1.1\r\nHost: x\r\nA: b\nContent-Length: 5\r\n\r\n",
        "GET / HTTP/1.0\n\n",
    ] {
        assert_eq!(refusal(of(text)), 400, "{text:?}");
    }
}

/// Pairs that make two programs see different requests in the same bytes.
#[test]
fn ambiguous_lengths_and_hosts_are_refused() {
    for bad in [
        "Content-Length: 3\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 3",
        "Content-Length: 3\r\nContent-Length: 3",
        "Content-Length: 3\r\nContent-Length: 4",
        "Content-Length: 3, 3",
        "Content-Length: +3",
        "Content-Length: -3",
        "Content-Length: 0x3",
        "Content-Length: 3 3",
        "Content-Length:",
        "Content-Length : 3",
        "Content-Length: 3\r\n : x",
        "X: a\r\n Content-Length: 3",
        "X: a\rContent-Length: 3",
        "X: a\0b",
        "Transfer-Encoding : chunked",
        "Host: a\r\nHost: b",
        "Host: a\r\nHost: a",
        ": x",
        "no colon",
    ] {
        assert_eq!(refusal(with(bad)), 400, "{bad}");
    }
    for unknown in [
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding:",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: chunked;q=1",
    ] {
        assert_eq!(refusal(with(unknown)), 501, "{unknown}");
    }
    assert_eq!(refusal(of("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n")), 400);
    assert_eq!(refusal(with("Content-Length: 99999999999999999999999")), 413);
    assert_eq!(with("Content-Length: 007").unwrap().framing, Framing::Length(7));
    assert_eq!(with("transfer-encoding:  CHUNKED ").unwrap().framing, Framing::Chunked);
}

#[test]
fn a_target_names_this_server() {
    let target = |target: &str, host: &str| {
        let parsed = of(&format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        parsed.map(|parsed| parsed.head.path().to_owned()).map_err(|refusal| refusal.status)
    };
    assert_eq!(target("http://A:80/x?y", "a:80").as_deref(), Ok("/x"));
    for (bad, host) in [
        ("http://other/x", "a"),
        ("http://a", "a"),
        ("http:///x", ""),
        ("https://a/x", "a"),
        ("a:80", "a:80"),
        ("*", "a"),
        ("x", "a"),
        ("http://a?x", "a"),
    ] {
        assert_eq!(target(bad, host), Err(400), "{bad}");
    }
    assert_eq!(refusal(of("GET http://a/ HTTP/1.1\r\n\r\n")), 400, "no Host header");
    assert_eq!(of("OPTIONS * HTTP/1.1\r\n\r\n").unwrap().head.path(), "*");
}

#[test]
fn malformed_requests_are_refused() {
    for bad in
        ["GET / HTTP/1.1 x\r\n\r\n", "GET  / HTTP/1.1\r\n\r\n", "GET /\r\n\r\n", "{\"a\":1}\n\n", "G\0T / HTTP/1.1\n\n"]
    {
        assert_eq!(refusal(of(bad)), 400, "{bad:?}");
    }
    for version in ["HTTP/2.0", "HTTP/0.9", "HTTP/1.2", "XTTP/1.1"] {
        assert!(matches!(refusal(of(&format!("GET / {version}\r\n\r\n"))), 505 | 400), "{version}");
    }
    let many = |count: usize| of(&format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(count)));
    assert!(many(MAX_HEADERS).is_ok());
    assert_eq!(refusal(many(MAX_HEADERS + 1)), 431);
}
