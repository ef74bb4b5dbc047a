use proptest::prelude::*;

use super::*;

fn of(text: &str) -> ProxyUrl {
    text.parse().expect("a proxy")
}

#[test]
fn kinds_hosts_and_ports() {
    for (text, kind, host, port) in [
        ("socks5://127.0.0.1:1080", ProxyKind::Socks5, "127.0.0.1", 1080),
        ("SOCKS5H://proxy.example:9050/", ProxyKind::Socks5, "proxy.example", 9050),
        ("socks4a://h_1:1", ProxyKind::Socks4a, "h_1", 1),
        (" http://[2001:db8::1]:65535 ", ProxyKind::Http, "2001:db8::1", 65535),
    ] {
        let url = of(text);
        assert_eq!((url.kind, url.host.as_str(), url.port, url.credentials), (kind, host, port, None), "{text}");
    }
}

#[test]
fn credentials_are_decoded_and_never_shown() {
    let url = of("socks5://me%40home:p%3Aw%2F@h:1");
    assert_eq!(url.credentials, Some(Credentials { user: "me@home".into(), password: "p:w/".into() }));
    assert_eq!(url.to_string(), "socks5://h:1");
    assert!(!format!("{url:?}").contains("home"));
    assert_eq!(of("http://[::1]:8").to_string(), "http://[::1]:8");
    assert_eq!(of("socks4a://me@h:1").credentials, Some(Credentials { user: "me".into(), password: String::new() }));
    assert_eq!(of("http://me:p@w@h:1").credentials.map(|it| it.password), Some("p@w".into()));
}

#[test]
fn other_urls_are_refused() {
    let long = format!("socks5://{}:x@h:1", "u".repeat(256));
    for (text, error) in [
        ("127.0.0.1:1080", ProxyUrlError::Scheme),
        ("https://h:1", ProxyUrlError::Scheme),
        ("socks4://h:1", ProxyUrlError::Scheme),
        ("", ProxyUrlError::Scheme),
        ("socks5://h", ProxyUrlError::Port),
        ("socks5://h:0", ProxyUrlError::Port),
        ("socks5://h:+1", ProxyUrlError::Port),
        ("socks5://h:65536", ProxyUrlError::Port),
        ("socks5://[::1]", ProxyUrlError::Port),
        ("socks5://[::1", ProxyUrlError::Host),
        ("socks5://[h]:1", ProxyUrlError::Host),
        ("socks5://:1", ProxyUrlError::Host),
        ("socks5://a b:1", ProxyUrlError::Host),
        ("socks5://h:1/path", ProxyUrlError::Rest),
        ("socks5://:pw@h:1", ProxyUrlError::Credentials),
        ("socks5://%ff:pw@h:1", ProxyUrlError::Credentials),
        ("socks5://a%00b@h:1", ProxyUrlError::Credentials),
        ("http://a%3ab:c@h:1", ProxyUrlError::Credentials),
        (&long, ProxyUrlError::Credentials),
        ("socks4a://me:pw@h:1", ProxyUrlError::Password),
    ] {
        assert_eq!(text.parse::<ProxyUrl>(), Err(error), "{text}");
    }
}

proptest! {
    #[test]
    fn no_text_panics(text in "(socks5|http)://[\\PC]{0,40}") {
        let _ = text.parse::<ProxyUrl>();
    }
}
