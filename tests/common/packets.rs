//! A record of all packets that a second machine sends, as its neighbour on the cable sees them, whatever program sends them.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};

use super::netns::RemoteMachine;

/// All protocols of Ethernet, for a packet socket.
const ALL_PROTOCOLS: u16 = 3;
/// The far machine's hardware address.
const FAR: [u8; 6] = [2, 0, 0, 0, 0x88, 2];
/// What systems do by themselves: protocol numbers of `ICMPv6`, and of the options before its reports of multicast groups.
const ICMPV6: u8 = 58;
const HOP_BY_HOP: u8 = 0;
const TCP: u8 = 6;
const UDP: u8 = 17;

/// An address of the near machine that counts as public, so that any tracker may name it.
pub const SWARM: [u8; 4] = [198, 51, 100, 3];

/// Protocol and destination of a packet.
pub type Flow = (&'static str, SocketAddr);

/// The machine whose packets are recorded. Its routes lead everything to the near machine, IPv6 and names included.
pub struct RecordedMachine {
    pub machine: RemoteMachine,
    flows: Arc<Mutex<BTreeMap<Flow, usize>>>,
    payloads: Arc<Mutex<BTreeMap<Flow, Vec<u8>>>>,
    stop: Arc<AtomicBool>,
    recorder: Option<JoinHandle<()>>,
}

impl RecordedMachine {
    /// Creates the machine with 10.89.0.2 and `fd89::2`, and starts the record. The near machine gets the public address [`SWARM`], too.
    pub fn new() -> RecordedMachine {
        let machine = RemoteMachine::new();
        let inside = format!("nsenter -t {} -n", machine.pid());
        let mac = FAR.map(|byte| format!("{byte:02x}")).join(":");
        let script = format!(
            "set -e; {inside} ip link set far address {mac}; {inside} ip route add default via 10.89.0.1
            ip addr add 198.51.100.3/24 dev lo; ip addr add fd89::1/64 dev near nodad; {inside} ip addr add fd89::2/64 dev far nodad
            {inside} ip -6 route add default via fd89::1
            names=$(mktemp); echo nameserver 10.88.0.9 >$names; mount --bind $names /etc/resolv.conf"
        );
        assert!(Command::new("sh").args(["-c", &script]).status().expect("sh").success(), "no second machine");
        let protocol = Protocol::from(i32::from(ALL_PROTOCOLS.to_be()));
        let mut socket = Socket::new(Domain::PACKET, Type::RAW, Some(protocol)).expect("a packet socket");
        socket.set_recv_buffer_size(64 << 20).expect("a large buffer");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        let (flows, stop) = (Arc::<Mutex<BTreeMap<Flow, usize>>>::default(), Arc::new(AtomicBool::new(false)));
        let payloads = Arc::<Mutex<BTreeMap<Flow, Vec<u8>>>>::default();
        let (seen, sent, stopped) = (flows.clone(), payloads.clone(), stop.clone());
        let recorder = std::thread::spawn(move || {
            let mut frame = vec![0; 65536];
            // The last packets wait in the buffer when the end is asked for.
            loop {
                match socket.read(&mut frame) {
                    Ok(length) => {
                        if let Some((flow, payload)) = flow(&frame[..length]) {
                            *seen.lock().entry(flow).or_default() += 1;
                            sent.lock().entry(flow).or_default().extend_from_slice(payload);
                        }
                    }
                    Err(_) if stopped.load(Ordering::Relaxed) => return,
                    Err(_) => {}
                }
            }
        });
        RecordedMachine { machine, flows, payloads, stop, recorder: Some(recorder) }
    }

    /// The flows so far, without what the system does by itself, each with the number of its packets.
    pub fn flows(&self) -> BTreeMap<Flow, usize> {
        self.flows.lock().clone()
    }

    /// What the packets of each flow contain, one after the other.
    pub fn payloads(&self) -> BTreeMap<Flow, Vec<u8>> {
        self.payloads.lock().clone()
    }

    /// Forgets all packets so far.
    pub fn forget(&self) {
        self.flows.lock().clear();
        self.payloads.lock().clear();
    }

    /// The flows that lead to none of these addresses.
    pub fn flows_beside(&self, allowed: &[IpAddr]) -> Vec<Flow> {
        self.flows().into_keys().filter(|(_, to)| !allowed.contains(&to.ip())).collect()
    }
}

impl Drop for RecordedMachine {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(recorder) = self.recorder.take() {
            drop(recorder.join());
        }
        drop(Command::new("umount").arg("/etc/resolv.conf").status());
    }
}

/// The flow of a frame of the far machine, and its payload.
fn flow(frame: &[u8]) -> Option<(Flow, &[u8])> {
    let (head, packet) = frame.split_at_checked(14)?;
    if head.get(6..12)? != FAR {
        return None;
    }
    match head.get(12..14)? {
        [0x08, 0x00] => {
            let length = usize::from(packet.first()? & 15) * 4;
            let to = Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(16..20)?).ok()?);
            Some(named(*packet.get(9)?, to.into(), packet.get(length..)?))
        }
        [0x86, 0xdd] => {
            let to = Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(24..40)?).ok()?);
            let protocol = *packet.get(6)?;
            let is_of_system = protocol == ICMPV6 || protocol == HOP_BY_HOP;
            (!is_of_system).then(|| named(protocol, to.into(), packet.get(40..).unwrap_or_default()))
        }
        _ => None, // ARP
    }
}

fn named(protocol: u8, to: IpAddr, segment: &[u8]) -> (Flow, &[u8]) {
    let port = segment.get(2..4).map_or(0, |port| u16::from_be_bytes([port[0], port[1]]));
    let (flow, head) = match protocol {
        TCP => (("tcp", SocketAddr::new(to, port)), usize::from(segment.get(12).map_or(0, |byte| byte >> 4)) * 4),
        UDP => (("udp", SocketAddr::new(to, port)), 8),
        _ => (("other", SocketAddr::new(to, 0)), 0),
    };
    (flow, segment.get(head..).unwrap_or_default())
}
