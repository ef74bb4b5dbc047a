//! Reads which services a router offers. Pure.

use crate::discovery::port_mapping::upnp::xml::{XmlPart, parts};
use crate::discovery::port_mapping::upnp::{RouterUrl, checked_path, split_url};

/// The services that map ports, the best first.
const NAT_SERVICES: [&str; 3] = [
    "urn:schemas-upnp-org:service:WANIPConnection:2",
    "urn:schemas-upnp-org:service:WANIPConnection:1",
    "urn:schemas-upnp-org:service:WANPPPConnection:1",
];
/// The service that opens ports for IPv6.
const FIREWALL_SERVICE: &str = "urn:schemas-upnp-org:service:WANIPv6FirewallControl:1";
/// The most services that are kept: a router may have several uplinks.
const MAX_NAT_SERVICES: usize = 4;

/// A service of the router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterService {
    /// One of the types above.
    pub kind: &'static str,
    /// Where requests go.
    pub control: RouterUrl,
}

impl RouterService {
    /// Whether the router may choose another external port itself (`AddAnyPortMapping`).
    pub fn can_choose_port(&self) -> bool {
        self.kind == NAT_SERVICES[0]
    }
}

/// The services of a router that matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RouterServices {
    /// Those that map ports, the best first.
    pub nat: Vec<RouterService>,
    /// The one that opens ports for IPv6.
    pub firewall: Option<RouterService>,
}

/// Reads the description found at `at`. Of control URLs only the port and path count, because all requests go to the gateway.
pub fn services(document: &str, at: &RouterUrl) -> RouterServices {
    let (mut found, mut base) = (RouterServices::default(), at.clone());
    let (mut element, mut kind, mut control) = ("", None, None);
    for part in parts(document) {
        match part {
            XmlPart::Start("service") => (element, kind, control) = ("", None, None),
            XmlPart::Start(name) => element = name,
            XmlPart::End("service") => {
                if let (Some(kind), Some(control)) = (kind.take(), control.take()) {
                    found.add(kind, control);
                }
            }
            XmlPart::End(_) => element = "",
            XmlPart::Text(text) => match element {
                "URLBase" => base = split_url(&text).map_or(base, |(_, url)| url),
                "serviceType" => kind = known_kind(&text),
                "controlURL" => control = control_url(&text, &base),
                _ => {}
            },
        }
    }
    found.sort();
    found
}

impl RouterServices {
    /// Adds the services of another description of the same router.
    pub fn merge(&mut self, other: RouterServices) {
        other.nat.into_iter().chain(other.firewall).for_each(|service| self.add(service.kind, service.control));
        self.sort();
    }

    fn sort(&mut self) {
        self.nat.sort_by_key(|service| NAT_SERVICES.iter().position(|kind| *kind == service.kind));
    }

    fn add(&mut self, kind: &'static str, control: RouterUrl) {
        let service = RouterService { kind, control };
        if kind == FIREWALL_SERVICE {
            self.firewall.get_or_insert(service);
        } else if self.nat.len() < MAX_NAT_SERVICES && !self.nat.contains(&service) {
            self.nat.push(service);
        }
    }
}

fn known_kind(text: &str) -> Option<&'static str> {
    NAT_SERVICES.into_iter().chain([FIREWALL_SERVICE]).find(|kind| *kind == text)
}

/// A control URL may be absolute, or relative to the base.
fn control_url(text: &str, base: &RouterUrl) -> Option<RouterUrl> {
    if text.contains("://") {
        return split_url(text).map(|(_, url)| url);
    }
    let path = if text.starts_with('/') {
        text.to_owned()
    } else {
        let folder = base.path.split(['?', '#']).next().unwrap_or_default();
        let folder = folder.rfind('/').and_then(|slash| folder.get(..=slash)).unwrap_or("/");
        format!("{folder}{text}")
    };
    Some(RouterUrl { port: base.port, path: checked_path(&path)? })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(port: u16, path: &str) -> RouterUrl {
        RouterUrl { port, path: path.to_owned() }
    }

    fn service(kind: &str, url: &str) -> String {
        format!(
            "<service><serviceType>{kind}</serviceType><serviceId>x</serviceId><controlURL>{url}</controlURL></service>"
        )
    }

    #[test]
    fn services_are_found_and_ordered() {
        let document = [
            "<?xml version=\"1.0\"?><root xmlns=\"urn:schemas-upnp-org:device-1-0\"><device><serviceList>",
            &service("urn:schemas-upnp-org:service:Layer3Forwarding:1", "/l3f"),
            &service("urn:schemas-upnp-org:service:WANPPPConnection:1", "ppp"),
            &service("urn:schemas-upnp-org:service:WANIPConnection:1", "http://10.9.9.9:7000/ip"),
            &service("urn:schemas-upnp-org:service:WANIPv6FirewallControl:1", "/6fc"),
            "</serviceList></device></root>",
        ];
        let found = services(&document.concat(), &at(5000, "/dir/root.xml"));
        let nat: Vec<_> = found.nat.iter().map(|service| (service.kind, service.control.clone())).collect();
        // The host of an absolute URL does not matter: the request goes to the gateway.
        assert_eq!(nat, [(NAT_SERVICES[1], at(7000, "/ip")), (NAT_SERVICES[2], at(5000, "/dir/ppp"))]);
        assert_eq!(found.firewall.map(|service| service.control), Some(at(5000, "/6fc")));
    }

    #[test]
    fn a_base_applies_to_relative_urls() {
        let base = "<root><URLBase>http://192.168.1.1:80/base/</URLBase>";
        let document = format!("{base}{}</root>", service(NAT_SERVICES[0], "c?d"));
        let found = services(&document, &at(5000, "/root.xml"));
        assert!(found.nat[0].can_choose_port());
        assert_eq!(found.nat[0].control, at(80, "/base/c?d"));
    }

    #[test]
    fn useless_descriptions_have_no_services() {
        let none =
            |document: &str| assert_eq!(services(document, &at(1, "/")), RouterServices::default(), "{document}");
        none("");
        none("<html>login</html>");
        none(&service(NAT_SERVICES[1], "ftp://192.168.1.1/x"));
        none(&service(NAT_SERVICES[1], "/a b"));
        none(&format!("<service><serviceType>{}</serviceType></service>", NAT_SERVICES[1]));
        let many: String = (0..1000).map(|n| service(NAT_SERVICES[1], &format!("/{n}"))).collect();
        assert_eq!(services(&many, &at(1, "/")).nat.len(), MAX_NAT_SERVICES);
    }

    proptest! {
        #[test]
        fn no_description_is_a_problem(kinds in prop::collection::vec((0_usize..3, ".{0,30}"), 0..20), cut: usize) {
            let document: String = kinds.iter().map(|(kind, url)| service(NAT_SERVICES[*kind], url)).collect();
            let document: String = document.chars().take(cut % (document.len() + 1)).collect();
            for service in services(&document, &at(1, "/x")).nat {
                prop_assert!(service.control.path.bytes().all(|byte| byte.is_ascii_graphic()));
            }
        }
    }
}
