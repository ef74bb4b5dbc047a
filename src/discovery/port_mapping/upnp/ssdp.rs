//! The search for the router's description (SSDP). Pure.

use std::net::IpAddr;

use crate::discovery::port_mapping::upnp::{RouterUrl, split_url};

/// The group and port of a search.
pub const GROUP: ([u8; 4], u16) = ([239, 255, 255, 250], 1900);
/// The longest answer that is read, in bytes.
pub const MAX_ANSWER: usize = 2048;
/// What is searched for: routers of both versions, and those that answer only to the search for all root devices.
const TARGETS: [&str; 3] = [
    "urn:schemas-upnp-org:device:InternetGatewayDevice:2",
    "urn:schemas-upnp-org:device:InternetGatewayDevice:1",
    "upnp:rootdevice",
];

/// The datagrams of a search. Devices answer within a second.
pub fn searches() -> impl Iterator<Item = String> {
    TARGETS.iter().map(|target| {
        format!(
            "M-SEARCH * HTTP/1.1\r\nHOST: 239.255.255.250:1900\r\nMAN: \"ssdp:discover\"\r\nMX: 1\r\nST: {target}\r\n\r\n"
        )
    })
}

/// Where the router's description is, by an answer from `sender`. `None` unless the sender is the gateway and names itself.
pub fn location(answer: &[u8], sender: IpAddr, gateway: IpAddr) -> Option<RouterUrl> {
    if sender.to_canonical() != gateway.to_canonical() || answer.len() > MAX_ANSWER {
        return None;
    }
    let text = std::str::from_utf8(answer).ok()?;
    let mut lines = text.lines();
    let status = lines.next()?;
    if !status.starts_with("HTTP/1.") || status.split(' ').nth(1) != Some("200") {
        return None;
    }
    let mut headers = lines.filter_map(|line| line.split_once(':'));
    let (_, value) = headers.find(|(name, _)| name.trim().eq_ignore_ascii_case("location"))?;
    let (host, url) = split_url(value.trim())?;
    (host.to_canonical() == gateway.to_canonical()).then_some(url)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const GATEWAY: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 1));

    fn answer(location: &str) -> String {
        format!("HTTP/1.1 200 OK\r\nCACHE-CONTROL: max-age=120\r\nLocation:{location}\r\nST: upnp:rootdevice\r\n\r\n")
    }

    #[test]
    fn only_the_gateway_names_its_description() {
        let at = |port, path: &str| Some(RouterUrl { port, path: path.to_owned() });
        let from = |ip: [u8; 4], text: &str| location(text.as_bytes(), ip.into(), GATEWAY);
        let good = answer(" http://192.168.1.1:5000/rootDesc.xml");
        assert_eq!(from([192, 168, 1, 1], &good), at(5000, "/rootDesc.xml"));
        assert_eq!(from([192, 168, 1, 9], &good), None, "somebody else");
        for url in ["http://192.168.1.9:5000/x", "http://router/x", "https://192.168.1.1/x", "file:///etc/passwd", ""] {
            assert_eq!(from([192, 168, 1, 1], &answer(url)), None, "{url}");
        }
        assert_eq!(from([192, 168, 1, 1], &good.replace("200", "404")), None);
        let notify = good.replace("HTTP/1.1 200 OK", "NOTIFY * HTTP/1.1");
        assert_eq!(from([192, 168, 1, 1], &notify), None);
        assert_eq!(from([192, 168, 1, 1], &format!("{good}{}", " ".repeat(MAX_ANSWER))), None);
    }

    #[test]
    fn searches_end_with_an_empty_line() {
        assert_eq!(searches().count(), TARGETS.len());
        assert!(searches().all(|search| search.ends_with("\r\n\r\n") && search.starts_with("M-SEARCH * HTTP/1.1\r\n")));
    }

    proptest! {
        #[test]
        fn no_answer_is_a_problem(datagram: Vec<u8>, url in "[h-t0-9.:/%\\[\\] \r\n]{0,60}") {
            let _ = location(&datagram, GATEWAY, GATEWAY);
            let _ = location(answer(&url).as_bytes(), GATEWAY, GATEWAY);
        }
    }
}
