//! Port mapping against a router that lies, and against miniupnpd.

use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::json;

use crate::common::netns::{RemoteMachine, find, in_network_namespace};
use crate::common::payload::Payload;
use crate::common::process::Running;
use crate::common::router::{
    self, Log, OTHER, ROUTER, announce, answer, description, found_at, gateway, http, natpmp_answer, upnp_error,
};
use crate::common::service::Service;
use crate::common::{TestDir, btsync, free_port, schema, until};

use btsync::{Bind, Client, MappingFailure, MappingProtocol, MappingState, PortMapping};

/// A client that asks the router at once.
fn client(bind: Bind) -> Arc<Client> {
    let builder = Client::builder().listen_ports(0..=0).dht(None).lsd(false).bind(bind);
    builder.port_mapping(PortMapping::On).build().expect("a client")
}

/// What the router said in the end, for IPv4.
fn outcome(client: &Client) -> MappingState {
    let state = || client.port_mapping().map(|status| status.ipv4);
    until("the router has answered, or has not", || state().is_some_and(|state| state != MappingState::Asking));
    state().expect("a state")
}

/// The state of a client whose router answers a search with this URL and HTTP requests with `answers`.
fn outcome_with_upnp(
    far: &RemoteMachine,
    location: impl Fn(SocketAddr) -> String,
    answers: impl FnMut(&str) -> Vec<u8> + Send + 'static,
) -> (MappingState, Log, Arc<Client>) {
    let (at, log) = http(far, ROUTER, answers);
    let location = location(at);
    let _search = router::datagrams(far, 1900, move |_| found_at(&location));
    let client = client(Bind::Any);
    (outcome(&client), log, client)
}

/// The requests so far, as text.
fn texts(log: &Log) -> Vec<String> {
    log.lock().expect("no panic").iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect()
}

fn mapped(state: &MappingState) -> (MappingProtocol, Option<u16>, Option<u16>) {
    match state {
        MappingState::Mapped { protocol, tcp_port, udp_port, .. } => (*protocol, *tcp_port, *udp_port),
        other => panic!("not mapped: {other:?}"),
    }
}

#[test]
fn a_router_with_natpmp_grants_other_ports_until_the_end() {
    in_network_namespace("a_router_with_natpmp_grants_other_ports_until_the_end", &[], || {
        let far = gateway();
        let (log, _socket) = router::datagrams(&far, 5351, |request| natpmp_answer(request, 1000, 7000));
        let client = client(Bind::Any);
        let port = client.port().expect("a port").to_be_bytes();
        assert_eq!(mapped(&outcome(&client)), (MappingProtocol::NatPmp, Some(7000), Some(7000)));
        drop(client);
        let removals = |opcode| [&[0, opcode, 0, 0][..], &port, &[0; 6]].concat();
        for opcode in [1, 2] {
            assert!(log.lock().expect("no panic").contains(&removals(opcode)), "nothing is left in the router");
        }
    });
}

#[test]
fn a_router_that_says_that_it_has_restarted_is_asked_again() {
    in_network_namespace("a_router_that_says_that_it_has_restarted_is_asked_again", &[], || {
        let far = gateway();
        let epoch = Arc::new(AtomicU32::new(5000));
        let now = epoch.clone();
        let (log, _socket) =
            router::datagrams(&far, 5351, move |request| natpmp_answer(request, now.load(Ordering::Relaxed), 7000));
        let client = client(Bind::Any);
        outcome(&client);
        // With the granted port: that of a mapping that exists.
        let again =
            || log.lock().expect("no panic").iter().filter(|request| request.get(6..8) == Some(&[0x1b, 0x58])).count();
        assert_eq!(again(), 0);
        epoch.store(1, Ordering::Relaxed);
        until("both ports are asked for again", || {
            announce(&far, &[0, 0x80, 0, 0, 0, 0, 0, 1, 9, 8, 7, 6]);
            again() >= 2
        });
    });
}

#[test]
fn a_clock_that_goes_back_in_each_answer_does_not_make_btsync_ask_without_a_pause() {
    let test = "a_clock_that_goes_back_in_each_answer_does_not_make_btsync_ask_without_a_pause";
    in_network_namespace(test, &[], || {
        let far = gateway();
        let mut epoch = u32::MAX;
        let _natpmp = router::datagrams(&far, 5351, move |request| {
            epoch -= 100;
            natpmp_answer(request, epoch, 7000)
        });
        // The state is known only when nothing more is to be asked at once.
        assert_eq!(mapped(&outcome(&client(Bind::Any))), (MappingProtocol::NatPmp, Some(7000), Some(7000)));
    });
}

#[test]
fn nothing_but_the_gateway_is_contacted() {
    in_network_namespace("nothing_but_the_gateway_is_contacted", &[], || {
        let far = gateway();
        let (trap, trapped) = http(&far, OTHER, |_| description(1));
        let (state, log, _client) = outcome_with_upnp(&far, move |_| format!("http://{trap}/root.xml"), |_| Vec::new());
        assert_eq!(state, MappingState::Failed(MappingFailure::Silent));
        assert!(texts(&log).is_empty() && texts(&trapped).is_empty(), "a URL of another host is not used");
    });
}

#[test]
fn requests_go_to_the_gateway_whatever_a_description_names() {
    in_network_namespace("requests_go_to_the_gateway_whatever_a_description_names", &[], || {
        let far = gateway();
        let (trap, trapped) = http(&far, OTHER, |_| answer(200, ""));
        let document =
            String::from_utf8(description(1)).expect("text").replace("/control", &format!("http://{trap}/c"));
        let body = document.split_once("\r\n\r\n").expect("a head").1.to_owned();
        let (state, ..) = outcome_with_upnp(&far, |at| format!("http://{at}/root.xml"), move |_| answer(200, &body));
        assert!(matches!(state, MappingState::Failed(_)), "the gateway has no such port: {state:?}");
        assert!(texts(&trapped).is_empty(), "another host was contacted");
    });
}

#[test]
fn answers_without_an_end_are_given_up() {
    in_network_namespace("answers_without_an_end_are_given_up", &[], || {
        let far = gateway();
        let endless = |_: &str| [b"HTTP/1.1 200 OK\r\n\r\n".to_vec(), vec![b'<'; 8 << 20]].concat();
        let (state, ..) = outcome_with_upnp(&far, |at| format!("http://{at}/root.xml"), endless);
        assert!(matches!(&state, MappingState::Failed(MappingFailure::Refused { .. })), "{state:?}");
    });
}

#[test]
fn a_router_without_time_limits_whose_port_is_taken_maps_another_one() {
    in_network_namespace("a_router_without_time_limits_whose_port_is_taken_maps_another_one", &[], || {
        let far = gateway();
        let mut refused = 0;
        let (state, log, client) = outcome_with_upnp(
            &far,
            |at| format!("http://{at}/root.xml"),
            move |request| {
                if request.starts_with("GET") {
                    return description(1);
                }
                let is_permanent = request.contains("<NewLeaseDuration>0<");
                if request.contains("AddPortMapping") && !is_permanent {
                    return upnp_error(725);
                }
                if request.contains("AddPortMapping") && refused < 2 {
                    refused += 1;
                    return upnp_error(718);
                }
                answer(200, "<NewExternalIPAddress>10.7.7.7</NewExternalIPAddress>")
            },
        );
        let (protocol, tcp, udp) = mapped(&state);
        assert_eq!(protocol, MappingProtocol::Upnp);
        assert!(tcp.is_some_and(|port| port >= 49152) && udp.is_some(), "{state:?}");
        assert!(state.to_string().contains("is itself behind another router at 10.7.7.7"), "{state}");
        drop(client);
        let deleted = texts(&log).iter().filter(|request| request.contains("#DeletePortMapping")).count();
        assert_eq!(deleted, 2, "what has no time limit must be removed");
    });
}

#[test]
fn a_mapping_is_removed_also_after_the_router_has_refused_another_one() {
    in_network_namespace("a_mapping_is_removed_also_after_the_router_has_refused_another_one", &[], || {
        let far = gateway();
        let grant_tcp = |request: &str| {
            if request.starts_with("GET") {
                return description(1);
            }
            if request.contains("<NewProtocol>UDP<") {
                return upnp_error(606);
            }
            answer(200, "<NewExternalIPAddress>9.8.7.6</NewExternalIPAddress>")
        };
        let (state, log, client) = outcome_with_upnp(&far, |at| format!("http://{at}/root.xml"), grant_tcp);
        assert_eq!(mapped(&state), (MappingProtocol::Upnp, client.port(), None));
        drop(client);
        let deleted = texts(&log).iter().filter(|request| request.contains("#DeletePortMapping")).count();
        assert_eq!(deleted, 1, "that for TCP");
    });
}

#[test]
fn a_refusal_is_told() {
    in_network_namespace("a_refusal_is_told", &[], || {
        let far = gateway();
        let refuse = |request: &str| if request.starts_with("GET") { description(2) } else { upnp_error(606) };
        let (state, ..) = outcome_with_upnp(&far, |at| format!("http://{at}/root.xml"), refuse);
        let text = "the router refuses (UPnP: not authorized: port mapping may be turned off in the router)";
        assert_eq!(state.to_string(), text);
    });
}

/// Starts a seed that asks the router.
fn seed(temp: &TestDir, payload: &Payload, announce: &str, port: u16, more: &[&str]) -> Running {
    let mut command = btsync();
    command.env_remove("BTSYNC_NO_PORT_MAPPING").env("XDG_CACHE_HOME", temp.path("cache"));
    command.arg(temp.torrent(payload, announce)).arg(temp.folder_with("seed", payload));
    command.args(["--seed", "--json", "--no-dht", "--no-lsd", "--listen-port", &port.to_string()]).args(more);
    temp.start("seed", &mut command)
}

#[test]
fn trackers_are_told_the_port_of_the_router() {
    in_network_namespace("trackers_are_told_the_port_of_the_router", &[], || {
        let (far, temp, payload) = (gateway(), TestDir::new(), Payload::single("seed.bin", 50_000, 16 * 1024));
        let _natpmp = router::datagrams(&far, 5351, |request| natpmp_answer(request, 1000, 7000));
        let (tracker, log) = http(&far, OTHER, |_| answer(200, "d8:intervali1800e5:peers0:e"));
        let mut seed = seed(&temp, &payload, &format!("http://{tracker}/announce"), free_port(), &[]);
        seed.wait_for_output("\"event\":\"port_mapping\"");
        assert!(seed.log().contains("the router forwards port 7000 (NAT-PMP)"), "{}", seed.log());
        let line = seed.log().lines().find(|line| line.contains("\"port_mapping\"")).expect("the event").to_owned();
        schema::assert_fits(&serde_json::from_str(&line).expect("JSON"));
        until("the tracker is asked", || !texts(&log).is_empty());
        seed.terminate(0);
        let last = texts(&log).pop().expect("an announce");
        assert!(last.contains("event=stopped") && last.contains("&port=7000&"), "{last}");
    });
}

#[test]
fn with_an_interface_the_router_is_asked_only_if_the_user_says_so() {
    in_network_namespace("with_an_interface_the_router_is_asked_only_if_the_user_says_so", &[], || {
        let far = gateway();
        let (log, _socket) = router::datagrams(&far, 5351, |request| natpmp_answer(request, 1000, 7000));
        let builder = Client::builder().listen_ports(0..=0).dht(None).lsd(false).bind(Bind::Interface("near".into()));
        let auto = PortMapping::Auto { after: std::time::Duration::ZERO };
        let silent = builder.port_mapping(auto).build().expect("a client");
        assert!(!silent.is_port_mapping_on());
        // Through loopback there is no gateway.
        let other = client(Bind::Interface("lo".into()));
        assert!(matches!(outcome(&other), MappingState::Failed(_)));
        assert!(log.lock().expect("no panic").is_empty(), "the gateway of another interface was asked");
        let through = client(Bind::Interface("near".into()));
        assert_eq!(mapped(&outcome(&through)).1, Some(7000));
    });
}

/// Starts miniupnpd on the far machine, with an uplink that leads nowhere.
fn start_miniupnpd(far: &RemoteMachine, temp: &TestDir) -> Running {
    let inside = format!("nsenter -t {} -n", far.pid());
    let script = format!(
        "set -e
        {inside} ip link add wan type veth peer name outside
        {inside} ip addr add 20.1.2.3/24 dev wan; {inside} ip link set wan up; {inside} ip link set outside up
        {inside} ip addr add fe80::1/64 dev far nodad; {inside} ip addr add 2001:db8:90::1/64 dev far nodad
        ip addr add 2001:db8:90::2/64 dev near nodad; ip -6 route add default via fe80::1 dev near
        {inside} nft -f - <<RULES
        table inet filter {{
            chain forward {{ type filter hook forward priority 0; }}
            chain prerouting {{ type nat hook prerouting priority -100; }}
            chain postrouting {{ type nat hook postrouting priority 100; }}
            chain miniupnpd {{ }}
            chain prerouting_miniupnpd {{ }}
            chain postrouting_miniupnpd {{ }}
        }}
RULES
        # The addresses of IPv6 need a moment.
        until ip -6 addr show dev near | grep -q 'inet6 fe80'; do sleep 0.1; done"
    );
    assert!(Command::new("sh").args(["-c", &script]).status().expect("sh").success(), "no router");
    let (config, pid) = (temp.path("miniupnpd.conf"), temp.path("miniupnpd.pid"));
    let text = "ext_ifname=wan\next_ip=20.1.2.3\nlistening_ip=far\nport=0\nenable_natpmp=yes\nenable_upnp=yes\nsecure_mode=yes\n\
        uuid=5a34308c-1dd2-11b2-9c2d-000000000001\nallow 1024-65535 0.0.0.0/0 1024-65535\n";
    fs::write(&config, text).expect("a configuration");
    let mut command = far.command(&find("miniupnpd").expect("it is installed"));
    let mut router = temp.start("miniupnpd", command.arg("-d").arg("-f").arg(config).arg("-P").arg(pid));
    router.wait_for_output("Listening for NAT-PMP/PCP traffic");
    router
}

/// The rules of the router that name a port.
fn rules(far: &RemoteMachine, port: u16) -> Vec<String> {
    let output = far.command(&find("nft").expect("it is installed")).args(["list", "ruleset"]).output().expect("nft");
    let text = String::from_utf8(output.stdout).expect("text");
    text.lines().filter(|line| line.contains(&port.to_string())).map(str::to_owned).collect()
}

/// A seed whose port miniupnpd forwards, for both families and transports, until the seed ends.
fn miniupnpd_forwards(protocol: &str, prepare: impl FnOnce(&RemoteMachine)) {
    let (far, temp, payload) = (gateway(), TestDir::new(), Payload::single("seed.bin", 50_000, 16 * 1024));
    let _router = start_miniupnpd(&far, &temp);
    prepare(&far);
    let port = free_port();
    let mut seed = seed(&temp, &payload, "http://10.89.0.3:1/announce", port, &[]);
    let text = format!("the router forwards port {port} ({protocol}); it lets IPv6 connections in ({protocol})");
    seed.wait_for_output(&text);
    // Two redirections, and openings of the firewall for each family and transport.
    assert_eq!(rules(&far, port).len(), 6, "{:#?}", rules(&far, port));
    seed.terminate(0);
    assert_eq!(rules(&far, port), [""; 0], "all is removed at the end");
}

#[test]
fn miniupnpd_forwards_by_pcp() {
    in_network_namespace("miniupnpd_forwards_by_pcp", &["miniupnpd", "nft"], || {
        miniupnpd_forwards("PCP", |_| ());
    });
}

#[test]
fn miniupnpd_forwards_by_upnp() {
    in_network_namespace("miniupnpd_forwards_by_upnp", &["miniupnpd", "nft"], || {
        miniupnpd_forwards("UPnP", |far| {
            let rule = "add chain inet filter input { type filter hook input priority 0; }
                add rule inet filter input udp dport 5351 reject";
            let nft = far.command(&find("nft").expect("it is installed")).arg(rule).status();
            assert!(nft.expect("nft").success(), "no rule");
        });
    });
}

#[test]
fn the_remote_control_of_a_service_starts_and_ends_port_mapping() {
    in_network_namespace("the_remote_control_of_a_service_starts_and_ends_port_mapping", &[], || {
        let far = gateway();
        let (log, _socket) = router::datagrams(&far, 5351, |request| natpmp_answer(request, 1000, 7000));
        let temp = TestDir::new();
        let service = Service::start(&temp, "switch", &[]); // with --no-port-mapping
        let session = || service.rpc("session_get", json!({}));
        let set = |is_on: bool| service.rpc("session_set", json!({ "port_forwarding_enabled": is_on }));
        let result = || session()["btsync_port_mapping"].as_str().expect("text").to_owned();
        // Both lifetimes end the requests for both transports.
        let requests = |is_removal: bool| {
            let is_it = |request: &&Vec<u8>| {
                matches!(request[..], [0, 1 | 2, _, _, _, _, _, _, ..]) && request.ends_with(&[0; 4]) == is_removal
            };
            log.lock().expect("no panic").iter().filter(is_it).count()
        };
        assert_eq!((&session()["port_forwarding_enabled"], requests(false)), (&json!(false), 0));
        for round in 1..=2 {
            set(true);
            assert_eq!(session()["port_forwarding_enabled"], true);
            until("the port is mapped", || result().contains("7000"));
            assert_eq!(requests(true), 2 * (round - 1), "nothing is removed yet");
            let mapped = requests(false);
            set(true);
            set(false);
            assert_eq!(requests(true), 2 * round, "both transports");
            assert_eq!((&session()["port_forwarding_enabled"], result()), (&json!(false), String::new()));
            assert_eq!(requests(false), mapped, "what is on already is not started again");
        }
        let saved = fs::read_to_string(temp.path("switch-state").join("settings.json")).expect("settings");
        assert!(saved.contains("\"port_mapping\": false") || saved.contains("\"port_mapping\":false"), "{saved}");
    });
}

#[test]
fn behind_a_proxy_and_anonymously_the_remote_control_turns_no_port_mapping_on() {
    let test = "behind_a_proxy_and_anonymously_the_remote_control_turns_no_port_mapping_on";
    in_network_namespace(test, &[], || {
        let far = gateway();
        let (log, _socket) = router::datagrams(&far, 5351, |request| natpmp_answer(request, 1000, 7000));
        let temp = TestDir::new();
        for (name, args) in [("proxy", &["--proxy", "socks5://127.0.0.1:1"][..]), ("anonymous", &["--anonymous"])] {
            let service = Service::start(&temp, name, args);
            service.rpc("session_set", json!({ "port_forwarding_enabled": true }));
            let session = service.rpc("session_get", json!({}));
            assert_eq!(
                (&session["port_forwarding_enabled"], &session["btsync_port_mapping"]),
                (&json!(false), &json!(""))
            );
        }
        assert!(log.lock().expect("no panic").is_empty(), "the router is not asked");
    });
}
