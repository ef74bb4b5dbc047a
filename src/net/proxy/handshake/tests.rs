use proptest::prelude::*;

use super::*;

fn proxy(url: &str) -> ProxyUrl {
    url.parse().expect("a proxy")
}

fn to(addr: &str) -> ProxyRequest {
    ProxyRequest::Connect(ProxyTarget::Addr(addr.parse().expect("an address")))
}

fn named(name: &str) -> ProxyRequest {
    ProxyRequest::Connect(ProxyTarget::Name(name.to_owned(), 80))
}

/// Runs a handshake with a proxy that sends `answers`. Returns what was sent to it, the result, and how many bytes were read.
fn run(url: &str, request: &ProxyRequest, answers: &[u8]) -> (Vec<u8>, Result<SocketAddr, ProxyError>, usize) {
    let mut sent = Vec::new();
    let mut read = 0;
    let mut handshake = match ProxyHandshake::new(&proxy(url), request) {
        Ok(handshake) => handshake,
        Err(error) => return (sent, Err(error), 0),
    };
    loop {
        match handshake.step() {
            ProxyStep::Send(bytes) => sent.extend(bytes),
            ProxyStep::Done(bound) => return (sent, Ok(bound), read),
            ProxyStep::Receive(count) => {
                let Some(bytes) = answers.get(read..read + count) else {
                    return (sent, Err(ProxyError::Malformed), read);
                };
                read += count;
                if let Err(error) = handshake.received(bytes) {
                    return (sent, Err(error), read);
                }
            }
        }
    }
}

#[test]
fn socks5_without_credentials() {
    let answers = [&[5, 0][..], &[5, 0, 0, 1, 10, 0, 0, 1, 4, 210], b"the target's"].concat();
    let (sent, bound, read) = run("socks5://h:1", &to("1.2.3.4:258"), &answers);
    assert_eq!(sent, [&[5, 1, 0][..], &[5, 1, 0, 1, 1, 2, 3, 4, 1, 2]].concat());
    assert_eq!(bound, Ok("10.0.0.1:1234".parse().expect("an address")));
    assert_eq!(read, 12, "nothing of what follows");
}

#[test]
fn socks5_with_credentials_a_name_and_ipv6() {
    let answers = [&[5, 2, 1, 0][..], &[5, 0, 0, 4], &[0; 16], &[0, 0]].concat();
    let (sent, bound, _) = run("socks5h://me:pw@h:1", &named("t.x"), &answers);
    assert_eq!(sent, [&[5, 2, 0, 2][..], b"\x01\x02me\x02pw", &[5, 1, 0, 3, 3], b"t.x", &[0, 80]].concat());
    assert!(bound.is_ok());
    let (sent, bound, _) = run("socks5://me:pw@h:1", &to("[2001:db8::1]:80"), b"\x05\0\x05\0\0\x03\x02ab\0\x50");
    assert_eq!(sent.len(), 4 + 22);
    assert_eq!(bound, Ok("0.0.0.0:0".parse().expect("an address")), "a bound name is of no use");
}

#[test]
fn socks5_associates_udp() {
    let answers = [&[5, 0][..], &[5, 0, 0, 1, 0, 0, 0, 0, 4, 210]].concat();
    let (sent, bound, _) = run("socks5://h:1", &ProxyRequest::AssociateUdp, &answers);
    assert_eq!(sent, [&[5, 1, 0][..], &[5, 3, 0, 1, 0, 0, 0, 0, 0, 0]].concat());
    assert_eq!(bound, Ok("0.0.0.0:1234".parse().expect("an address")));
    for other in ["socks4a://h:1", "http://h:1"] {
        assert_eq!(run(other, &ProxyRequest::AssociateUdp, &[]).1, Err(ProxyError::Unsupported("UDP")));
    }
}

#[test]
fn socks5_refusals() {
    let of = |url: &str, answers: &[u8]| run(url, &to("1.2.3.4:80"), answers).1.expect_err("a refusal");
    assert_eq!(of("socks5://h:1", &[5, 0xff]), ProxyError::Credentials);
    assert_eq!(of("socks5://me:pw@h:1", &[5, 2, 1, 1]), ProxyError::Credentials);
    assert_eq!(of("socks5://h:1", &[5, 2]), ProxyError::Malformed, "a method that was not offered");
    assert_eq!(of("socks5://h:1", &[5, 0, 5, 0, 0, 9]), ProxyError::Malformed, "an unknown kind of address");
    assert_eq!(of("socks5://h:1", b"HTTP/1.1 400"), ProxyError::Malformed);
    let of = |result: u8| of("socks5://h:1", &[5, 0, 5, result, 0, 1]);
    assert!([3, 4, 5, 6, 8].into_iter().all(|result| of(result).concerns_only_target()));
    assert!([1, 2, 7, 9, 255].into_iter().all(|result| matches!(of(result), ProxyError::Refused(_))));
}

#[test]
fn socks4a() {
    let granted = [0, 0x5a, 0, 0, 0, 0, 0, 0];
    let (sent, bound, _) = run("socks4a://me@h:1", &to("1.2.3.4:258"), &granted);
    assert_eq!((sent, bound.is_ok()), ([&[4, 1, 1, 2, 1, 2, 3, 4][..], b"me\0"].concat(), true));
    let (sent, ..) = run("socks4a://h:1", &named("t.x"), &granted);
    assert_eq!(sent, [&[4, 1, 0, 80, 0, 0, 0, 1, 0][..], b"t.x\0"].concat());
    let of = |request: &ProxyRequest, result: u8| run("socks4a://h:1", request, &[0, result, 0, 0, 0, 0, 0, 0]).1;
    assert!(of(&to("1.2.3.4:1"), 0x5b).expect_err("a refusal").concerns_only_target());
    assert_eq!(of(&to("1.2.3.4:1"), 0x5d), Err(ProxyError::Credentials));
    assert_eq!(of(&to("1.2.3.4:1"), 5), Err(ProxyError::Malformed));
    assert!(of(&to("[2001:db8::1]:1"), 0x5a).expect_err("no IPv6").concerns_only_target());
    assert!(of(&named("a\0b"), 0x5a).is_err() && of(&named(""), 0x5a).is_err());
}

#[test]
fn http() {
    let response = b"HTTP/1.1 200 Connection established\r\nX: y\r\n\r\n";
    let (sent, bound, read) = run("http://me:pw@h:1", &named("t.x"), &[&response[..], b"more"].concat());
    let request = "CONNECT t.x:80 HTTP/1.1\r\nHost: t.x:80\r\nProxy-Authorization: Basic bWU6cHc=\r\n\r\n";
    assert_eq!((String::from_utf8(sent).expect("text").as_str(), bound.is_ok()), (request, true));
    assert_eq!(read, response.len());
    let (sent, ..) = run("http://h:1", &to("[2001:db8::1]:80"), b"");
    assert!(sent.starts_with(b"CONNECT [2001:db8::1]:80 HTTP/1.1\r\n"));
    let of = |response: &str| run("http://h:1", &named("t"), response.as_bytes()).1.map(drop);
    assert_eq!(of("HTTP/1.0 407 No\r\n\r\n"), Err(ProxyError::Credentials));
    assert_eq!(of("HTTP/1.1 403 No\r\n\r\n"), Err(ProxyError::Refused("HTTP status 403".into())));
    assert!(of("HTTP/1.1 503 No\r\n\r\n").expect_err("a failure").concerns_only_target());
    for bad in ["SSH-2.0-x\r\n\r\n", "HTTP/2 200 OK\r\n\r\n", "\r\n\r\n", &"x".repeat(100_000)] {
        assert_eq!(of(bad), Err(ProxyError::Malformed));
    }
    assert!(run("http://h:1", &named("a\r\nb"), b"").1.is_err(), "no header of a stranger");
}

proptest! {
    /// Whatever a proxy sends: the handshake ends, and reads at most what a longest answer has.
    #[test]
    fn any_answer_ends_the_handshake(
        kind in 0_usize..4, name in any::<bool>(), start in any::<bool>(),
        mut answers in proptest::collection::vec(any::<u8>(), 0..400),
    ) {
        if start {
            answers.splice(0..0, [5, 0, 5, 0, 0]);
        }
        let url = ["socks5://h:1", "socks5://a:b@h:1", "socks4a://h:1", "http://h:1"][kind];
        let request = if name { named("host") } else { to("1.2.3.4:5") };
        let (sent, _, read) = run(url, &request, &answers);
        prop_assert!(!sent.is_empty() && read <= 512 && read <= answers.len());
    }
}

/// A torrent may name trackers with such hosts. Without a request, the proxy cannot refuse, so this says nothing about it.
#[test]
fn no_proxy_is_asked_for_names_that_no_host_has() {
    let long = "a.".repeat(130);
    for url in ["socks5://h:1", "socks4a://h:1", "http://h:1"] {
        for name in [&long, &"a".repeat(64), "a..b", "", "."] {
            let (sent, bound, _) = run(url, &named(name), &[]);
            assert_eq!((sent, bound), (Vec::new(), Err(ProxyError::Name)), "{name} {url}");
        }
        assert_ne!(
            run(url, &named(&format!("{}.{}.", "a".repeat(63), "b.".repeat(90) + "c")), &[]).1,
            Err(ProxyError::Name)
        );
    }
    assert!(ProxyError::Name.concerns_only_target());
}
