//! uTP (BEP 29): streams over UDP that give way to other traffic (LEDBAT, RFC 6817). This is the pure core: no sockets, clocks,
//! threads or locks. [`UtpEndpoint`] has all connections of one UDP socket. Its driver
//!
//! 1. gives it every datagram ([`UtpEndpoint::receive`]) and, when [`UtpEndpoint::next_deadline`] has come, the time
//!    ([`UtpEndpoint::handle_deadlines`]);
//! 2. after each batch of those, and after writes and reads of streams, takes the events ([`UtpEndpoint::next_event`]);
//! 3. and sends what [`UtpEndpoint::transmit`] returns until it returns nothing. Acknowledgements are merged until then.
//!
//! `docs/dev/utp.md` explains the design.

pub mod base_delay;
pub mod byte_ring;
pub mod connection;
pub mod deadline_queue;
pub mod endpoint;
pub mod ledbat;
pub mod mtu_discovery;
pub mod packet;
pub mod receive_buffer;
pub mod rtt_estimator;
pub mod send_buffer;
pub mod send_clock;
pub mod seq_nr;

use std::net::{IpAddr, SocketAddr};

pub use endpoint::UtpEndpoint;

/// A time of the driver's monotonic clock in microseconds. The start of the clock does not matter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct UtpTime(pub u64);

impl UtpTime {
    /// The time that many microseconds later.
    #[must_use]
    pub fn after(self, microseconds: u64) -> UtpTime {
        UtpTime(self.0.saturating_add(microseconds))
    }

    /// Microseconds since an earlier time; 0 if that time is later.
    pub fn since(self, earlier: UtpTime) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Names a connection of an endpoint. A key is never used again for another connection, so a stale one is harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct UtpKey {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
}

/// The settings of an endpoint. All times are microseconds.
#[derive(Clone, Debug)]
pub struct UtpConfig {
    /// The delay that our data may add to that of the path, in queues of routers. RFC 6817 allows at most 100 ms. The default is
    /// less, because the delay oscillates around it.
    pub target_delay: u64,
    /// The most received bytes of one connection that wait for [`UtpEndpoint::consume`].
    pub receive_buffer: usize,
    /// When all connections together keep so many received bytes, each keeps only [`UtpConfig::min_receive_buffer`] more.
    pub max_buffered: usize,
    /// What one connection may keep in any case.
    pub min_receive_buffer: usize,
    /// The most written bytes of one connection that wait to be sent or acknowledged. On slow paths, less is accepted.
    pub send_buffer: usize,
    /// The most connections, including half-open and lingering ones. A quarter of them is for our own.
    pub max_connections: usize,
    /// The most incoming connections whose address is not verified yet. One subnet has at most a quarter of them.
    pub max_half_open: usize,
    /// The most of them from one host (an IPv4 address or an IPv6 /64).
    pub max_half_open_per_host: usize,
    /// The most connections that their owners have released, and that deliver their last data.
    pub max_released: usize,
    /// The most bytes in the buffers of all of them. One more may exceed it.
    pub max_released_bytes: usize,
    /// The most of them with one host.
    pub max_released_per_host: usize,
    /// How often a SYN is sent before [`UtpEndpoint::connect`] has failed.
    pub syn_attempts: u32,
    /// The time until a SYN is sent again; it doubles each time.
    pub syn_timeout: u64,
    /// Consecutive retransmission timeouts after which the connection is closed.
    pub max_timeouts: u32,
    /// How long an incoming connection may be half open.
    pub half_open_timeout: u64,
    /// How long a released connection may take to deliver its data.
    pub finish_timeout: u64,
    /// How long a released connection waits for the peer's FIN when the peer has everything.
    pub fin_wait: u64,
    /// How long a finished connection answers repeated packets of a peer that missed the last acknowledgement.
    pub linger: u64,
    /// A connection that has sent nothing for this long sends an acknowledgement, so that routers keep its mapping.
    pub keep_alive: u64,
    /// The datagram size (UDP payload) to start with, assumed to work on every path (RFC 8899: `BASE_PLPMTU`).
    pub base_datagram: usize,
    /// The largest datagram to try. The default fits Ethernet's MTU of 1500. At most 65,507.
    pub max_datagram: usize,
    /// The same for peers on this machine.
    pub max_loopback_datagram: usize,
}

impl UtpConfig {
    /// The default settings for a socket of IPv4 or IPv6.
    pub fn new(is_ipv6: bool) -> UtpConfig {
        let headers = if is_ipv6 { 48 } else { 28 };
        UtpConfig {
            target_delay: 60_000,
            receive_buffer: 1 << 20,
            max_buffered: 32 << 20,
            min_receive_buffer: 64 << 10,
            send_buffer: 1 << 20,
            max_connections: 4096,
            max_half_open: 1024,
            max_half_open_per_host: 8,
            max_released: 1024,
            max_released_bytes: 32 << 20,
            max_released_per_host: 32,
            syn_attempts: 4,
            syn_timeout: 1_000_000,
            max_timeouts: 6,
            half_open_timeout: 10_000_000,
            finish_timeout: 60_000_000,
            fin_wait: 5_000_000,
            linger: 3_000_000,
            keep_alive: 29_000_000,
            base_datagram: 1280 - headers,
            max_datagram: 1500 - headers,
            max_loopback_datagram: 65_507,
        }
    }
}

/// Why a connection has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UtpCloseReason {
    /// Both directions were finished, and everything was acknowledged.
    Finished,
    /// The peer sent RESET.
    Reset,
    /// The peer has not answered repeated packets.
    TimedOut,
    /// The peer has not answered our SYN.
    ConnectTimedOut,
    /// An ICMP error answered our SYN ([`UtpEndpoint::refuse`]).
    Refused,
}

/// A change of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UtpEvent {
    /// A peer has connected, and its address is verified.
    Incoming {
        /// The new connection. The driver releases or resets it some day.
        key: UtpKey,
        /// The peer's address.
        addr: SocketAddr,
    },
    /// The peer has accepted our connection.
    Connected(UtpKey),
    /// There are bytes to consume. Reported again only if more arrive after this event was taken.
    Readable(UtpKey),
    /// There is space to write, after a write that was not accepted as a whole.
    Writable(UtpKey),
    /// The peer has finished its stream: what is readable now is all that remains.
    Finished(UtpKey),
    /// The connection has ended. What was received can still be consumed, until the driver releases the key.
    Closed(UtpKey, UtpCloseReason),
}

/// What a connection that we open is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UtpDial {
    /// The peer is believed to be reachable.
    #[default]
    Direct,
    /// Both sides connect to each other at the same time, through their routers (BEP 55). A router may refuse the first packets,
    /// because it has not seen those of its own side yet, so unreachable do not count.
    HolePunch,
}

/// Why a connection cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UtpConnectError {
    /// The limit on connections is reached.
    #[error("too many uTP connections")]
    TooMany,
}

/// Datagrams of one connection, which the driver sends next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UtpTransmit {
    /// The address of ours that they come from; `None` lets the system choose.
    pub from: Option<IpAddr>,
    /// Where they go.
    pub to: SocketAddr,
    /// The length of each of them but the last, which may be shorter.
    pub segment: usize,
    /// How many there are: at most 64, with at most 65,507 bytes.
    pub count: usize,
}

#[cfg(test)]
mod tests;
