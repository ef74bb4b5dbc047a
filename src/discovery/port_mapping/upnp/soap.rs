//! Requests to the router's services, and their answers. Pure.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use crate::discovery::port_mapping::planner::MappedTransport;
use crate::discovery::port_mapping::upnp::message::RouterAnswer;
use crate::discovery::port_mapping::upnp::xml::{escaped, text_of};
use crate::util::printable_text::printable;

/// How the mapping is called in the router's pages.
const DESCRIPTION: &str = "btsync";
/// The longest reason of the router that is shown, in characters.
const MAX_REASON: usize = 100;

/// A request to a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouterAction {
    /// Asks for the external IPv4 address.
    ExternalAddress,
    /// Asks for exactly this port; a lifetime of zero is without limit.
    AddPort { transport: MappedTransport, external: u16, internal: u16, client: IpAddr, lifetime: Duration },
    /// The same, but the router may choose another external port.
    AddAnyPort { transport: MappedTransport, external: u16, internal: u16, client: IpAddr, lifetime: Duration },
    /// Removes a mapping.
    DeletePort { transport: MappedTransport, external: u16 },
    /// Opens the firewall.
    AddPinhole { transport: MappedTransport, internal: u16, client: Ipv6Addr, lifetime: Duration },
    /// Keeps an opening.
    UpdatePinhole { id: u16, lifetime: Duration },
    /// Closes an opening.
    DeletePinhole { id: u16 },
}

/// An error of the router.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterRefusal {
    /// UPnP's error code; 0 if it names none.
    pub code: u16,
    /// Printable.
    pub reason: String,
}

impl RouterRefusal {
    /// Somebody else has the port.
    pub fn is_conflict(&self) -> bool {
        matches!(self.code, 718 | 728)
    }

    /// The router makes only mappings without a time limit.
    pub fn wants_no_time_limit(&self) -> bool {
        matches!(self.code, 725 | 726)
    }

    /// The router does not know the action, or its arguments.
    pub fn is_unknown_action(&self) -> bool {
        matches!(self.code, 401 | 402 | 600..=602)
    }

    /// The router does not know the pinhole.
    pub fn is_unknown_pinhole(&self) -> bool {
        self.code == 704
    }
}

impl RouterAction {
    /// The value of the header `SOAPAction`, and the body.
    pub fn encode(&self, service: &str) -> (String, String) {
        let (name, arguments) = self.name_and_arguments();
        let arguments: Vec<String> =
            arguments.iter().map(|(name, value)| format!("<{name}>{}</{name}>", escaped(value))).collect();
        let arguments = arguments.concat();
        let body = format!(
            "<?xml version=\"1.0\"?>\r\n<s:Envelope xmlns:s=\"http://schemas.xmlsoap.org/soap/envelope/\" \
             s:encodingStyle=\"http://schemas.xmlsoap.org/soap/encoding/\"><s:Body><u:{name} xmlns:u=\"{service}\">{arguments}\
             </u:{name}></s:Body></s:Envelope>\r\n"
        );
        (format!("{service}#{name}"), body)
    }

    fn name_and_arguments(&self) -> (&'static str, Vec<(&'static str, String)>) {
        match *self {
            RouterAction::ExternalAddress => ("GetExternalIPAddress", Vec::new()),
            RouterAction::AddPort { transport, external, internal, client, lifetime } => {
                ("AddPortMapping", port_arguments(transport, external, internal, client, lifetime))
            }
            RouterAction::AddAnyPort { transport, external, internal, client, lifetime } => {
                ("AddAnyPortMapping", port_arguments(transport, external, internal, client, lifetime))
            }
            RouterAction::DeletePort { transport, external } => {
                let mut arguments = any_remote_host();
                arguments
                    .extend([("NewExternalPort", external.to_string()), ("NewProtocol", name(transport).to_owned())]);
                ("DeletePortMapping", arguments)
            }
            RouterAction::AddPinhole { transport, internal, client, lifetime } => {
                let protocol = if transport == MappedTransport::Tcp { "6" } else { "17" };
                let arguments = vec![
                    ("RemoteHost", String::new()),
                    ("RemotePort", "0".to_owned()),
                    ("InternalClient", client.to_string()),
                    ("InternalPort", internal.to_string()),
                    ("Protocol", protocol.to_owned()),
                    ("LeaseTime", lifetime.as_secs().to_string()),
                ];
                ("AddPinhole", arguments)
            }
            RouterAction::UpdatePinhole { id, lifetime } => {
                let arguments = vec![("UniqueID", id.to_string()), ("NewLeaseTime", lifetime.as_secs().to_string())];
                ("UpdatePinhole", arguments)
            }
            RouterAction::DeletePinhole { id } => ("DeletePinhole", vec![("UniqueID", id.to_string())]),
        }
    }
}

fn any_remote_host() -> Vec<(&'static str, String)> {
    vec![("NewRemoteHost", String::new())]
}

/// The arguments in the order of the specification, which some routers insist on.
fn port_arguments(
    transport: MappedTransport,
    external: u16,
    internal: u16,
    client: IpAddr,
    lifetime: Duration,
) -> Vec<(&'static str, String)> {
    let mut arguments = any_remote_host();
    arguments.extend([
        ("NewExternalPort", external.to_string()),
        ("NewProtocol", name(transport).to_owned()),
        ("NewInternalPort", internal.to_string()),
        ("NewInternalClient", client.to_string()),
        ("NewEnabled", "1".to_owned()),
        ("NewPortMappingDescription", DESCRIPTION.to_owned()),
        ("NewLeaseDuration", lifetime.as_secs().to_string()),
    ]);
    arguments
}

fn name(transport: MappedTransport) -> &'static str {
    match transport {
        MappedTransport::Tcp => "TCP",
        MappedTransport::Udp => "UDP",
    }
}

/// The body of a successful answer.
///
/// # Errors
/// What the router refuses with.
pub fn check_response(answer: RouterAnswer) -> Result<String, RouterRefusal> {
    if answer.status == 200 && text_of(&answer.body, "errorCode").is_none() {
        return Ok(answer.body);
    }
    let code = text_of(&answer.body, "errorCode").and_then(|code| code.parse().ok()).unwrap_or(0);
    let description = text_of(&answer.body, "errorDescription").unwrap_or_default();
    let description: String = printable(&description).chars().take(MAX_REASON).collect();
    let reason = match (code, description.as_str()) {
        (0, _) => format!("HTTP status {}", answer.status),
        (606, _) => "not authorized: port mapping may be turned off in the router".to_owned(),
        (code, "") => format!("error {code}"),
        (code, description) => format!("error {code}, {description}"),
    };
    Err(RouterRefusal { code, reason })
}

/// The external address in the answer to [`RouterAction::ExternalAddress`]; `None` if the router has none.
pub fn external_address(body: &str) -> Option<IpAddr> {
    let address: IpAddr = text_of(body, "NewExternalIPAddress")?.parse().ok()?;
    (address.is_ipv4() && !address.is_unspecified()).then_some(address)
}

/// The port that the router chose, in the answer to [`RouterAction::AddAnyPort`].
pub fn reserved_port(body: &str) -> Option<u16> {
    text_of(body, "NewReservedPort")?.parse().ok().filter(|port| *port != 0)
}

/// The pinhole in the answer to [`RouterAction::AddPinhole`].
pub fn pinhole(body: &str) -> Option<u16> {
    text_of(body, "UniqueID")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SERVICE: &str = "urn:schemas-upnp-org:service:WANIPConnection:1";

    fn answer(status: u16, body: &str) -> RouterAnswer {
        RouterAnswer { status, body: body.to_owned() }
    }

    #[test]
    fn a_request_has_its_arguments_in_order() {
        let action = RouterAction::AddPort {
            transport: MappedTransport::Udp,
            external: 7000,
            internal: 6881,
            client: [192, 168, 1, 7].into(),
            lifetime: Duration::from_secs(3600),
        };
        let (header, body) = action.encode(SERVICE);
        assert_eq!(header, format!("{SERVICE}#AddPortMapping"));
        let arguments = "<NewRemoteHost></NewRemoteHost><NewExternalPort>7000</NewExternalPort><NewProtocol>UDP</NewProtocol>\
            <NewInternalPort>6881</NewInternalPort><NewInternalClient>192.168.1.7</NewInternalClient><NewEnabled>1</NewEnabled>\
            <NewPortMappingDescription>btsync</NewPortMappingDescription><NewLeaseDuration>3600</NewLeaseDuration>";
        assert!(body.contains(arguments), "{body}");
        let (_, body) = RouterAction::DeletePinhole { id: 7 }.encode("x");
        assert!(body.contains("<u:DeletePinhole xmlns:u=\"x\"><UniqueID>7</UniqueID></u:DeletePinhole>"), "{body}");
    }

    #[test]
    fn answers_are_read() {
        let ok =
            answer(200, "<s:Envelope><u:R><NewExternalIPAddress>9.8.7.6</NewExternalIPAddress></u:R></s:Envelope>");
        assert_eq!(check_response(ok).ok().and_then(|body| external_address(&body)), Some([9, 8, 7, 6].into()));
        for none in ["0.0.0.0", "", "::1", "x"] {
            assert_eq!(external_address(&format!("<NewExternalIPAddress>{none}</NewExternalIPAddress>")), None);
        }
        assert_eq!(reserved_port("<NewReservedPort>7000</NewReservedPort>"), Some(7000));
        assert_eq!(
            (reserved_port("<NewReservedPort>0</NewReservedPort>"), pinhole("<UniqueID>70000</UniqueID>")),
            (None, None)
        );
    }

    #[test]
    fn refusals_are_told_apart() {
        let refused = |code: u16, words: &str| {
            let body = format!(
                "<detail><UPnPError><errorCode>{code}</errorCode><errorDescription>{words}</errorDescription></UPnPError></detail>"
            );
            check_response(answer(500, &body)).expect_err("an error")
        };
        assert!(refused(718, "ConflictInMappingEntry").is_conflict() && refused(725, "").wants_no_time_limit());
        assert!(refused(401, "Invalid Action").is_unknown_action() && refused(704, "NoSuchEntry").is_unknown_pinhole());
        assert_eq!(refused(718, "ConflictInMappingEntry").reason, "error 718, ConflictInMappingEntry");
        assert!(!refused(9, "\u{1b}[31mred").reason.contains('\u{1b}'));
        assert!(refused(9, &"x".repeat(5000)).reason.len() < 200);
        assert_eq!(check_response(answer(404, "")).expect_err("an error").reason, "HTTP status 404");
        assert!(check_response(answer(200, "<errorCode>501</errorCode>")).is_err());
    }
}
