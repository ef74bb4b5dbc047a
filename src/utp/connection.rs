//! One connection: what it knows. [`user`] has what its user does, [`incoming`] handles packets, [`outgoing`] makes them,
//! [`deadlines`] handles the passing of time, and [`figures`] tells how the connection sends.

mod deadlines;
mod figures;
mod incoming;
mod outgoing;
mod user;

use std::net::{IpAddr, SocketAddr};

use crate::utp::base_delay::BaseDelay;
use crate::utp::ledbat::Ledbat;
use crate::utp::mtu_discovery::MtuDiscovery;
use crate::utp::packet::{HEADER, PacketKind, UtpHeader};
use crate::utp::receive_buffer::UtpReceiveBuffer;
use crate::utp::rtt_estimator::RttEstimator;
use crate::utp::send_buffer::SendBuffer;
use crate::utp::send_clock::SendClock;
use crate::utp::seq_nr::SeqNr;
use crate::utp::{UtpCloseReason, UtpConfig, UtpDial, UtpTime};

/// The phases of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UtpPhase {
    /// We have sent a SYN.
    SynSent,
    /// We have answered a SYN. The peer's address is not verified; it may be forged.
    HalfOpen,
    /// Both sides have acknowledged a packet of the other.
    Open,
    /// Everything is delivered in both directions; repeated packets are still acknowledged.
    Lingering,
    /// The connection has failed.
    Closed,
}

/// What happened to a connection that its user must learn. The endpoint makes events of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "a set")]
pub struct UtpSignals {
    /// An incoming connection is verified.
    pub incoming: bool,
    /// The peer has answered our SYN.
    pub connected: bool,
    /// Bytes have arrived.
    pub readable: bool,
    /// There is space for writing again.
    pub writable: bool,
    /// The peer's stream has ended.
    pub finished: bool,
    /// The connection has ended.
    pub closed: Option<UtpCloseReason>,
    /// The peer must be told that the connection has ended.
    pub send_reset: bool,
    /// Nothing is left to do: forget the connection.
    pub is_removable: bool,
}

/// One connection.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "independent facts")]
pub struct UtpConnection {
    /// The peer's address.
    pub addr: SocketAddr,
    /// The address of ours that the peer has connected to; `None` if the system chooses.
    pub local_ip: Option<IpAddr>,
    /// The connection's number in packets that we receive.
    pub recv_id: u16,
    /// The number in packets that we send.
    pub send_id: u16,
    /// What the endpoint has to tell.
    pub signals: UtpSignals,
    phase: UtpPhase,
    /// Whether unreachable count, if we open it.
    dial: UtpDial,
    receive: UtpReceiveBuffer,
    send: SendBuffer,
    round_trip: RttEstimator,
    /// The delay of our packets, as the peer measures it.
    our_delay: BaseDelay,
    /// The delay of the peer's packets.
    their_delay: BaseDelay,
    ledbat: Ledbat,
    mtu: MtuDiscovery,
    /// Our timestamps are the driver's time plus this.
    clock_offset: u32,
    /// The last measured delay of the peer's packets, which our packets report.
    reply_delay: u32,
    peer_window: usize,
    /// The window in our last packet.
    advertised_window: usize,
    /// When transmissions from this one on are lost, the window shrinks once more.
    recovery_start: u64,
    /// A packet that has just been found lost is sent at once, whatever the window.
    is_fast_retransmit_due: bool,
    /// One packet may be sent although the peer has no space, to learn whether it still has none.
    is_window_probe_due: bool,
    /// Whether the congestion window kept us from sending.
    is_cwnd_limited: bool,
    /// How often the same acknowledgement has come.
    duplicate_acks: u32,
    /// How many timeouts have followed each other.
    timeouts: u32,
    syn_attempts: u32,
    /// Packets with data that are not acknowledged.
    received_since_ack: u32,
    is_ack_due: bool,
    is_syn_due: bool,
    /// How many packets with data have arrived; the first ones are acknowledged at once.
    data_packets_received: u32,
    retransmit_at: Option<UtpTime>,
    /// Since when the peer has been silent, if the last packet may be sent again before the timeout.
    tail_since: Option<UtpTime>,
    delayed_ack_at: Option<UtpTime>,
    /// When the phase has lasted too long.
    phase_deadline: Option<UtpTime>,
    last_sent: UtpTime,
    last_data_sent: UtpTime,
    keep_alive: u64,
    max_send_buffer: usize,
    is_writer_blocked: bool,
    is_end_of_stream_reported: bool,
    is_released: bool,
    /// How many bytes the peer has acknowledged.
    acked_bytes: u64,
    /// How many packets acknowledged something that we have not sent.
    wrong_acks: u32,
    /// Whether the connection is released, the peer has everything, and only its FIN is missing.
    is_fin_awaited: bool,
    send_clock: SendClock,
    /// Whether [`UtpConnection::take_figures`] has something new.
    has_new_figures: bool,
}

/// A connection's unpredictable first values.
#[derive(Clone, Copy, Debug)]
pub struct InitialValues {
    /// The first sequence number of our packets.
    pub first: SeqNr,
    /// An offset of our timestamps, so that they do not tell for how long the machine has been up.
    pub clock_offset: u32,
}

impl UtpConnection {
    /// A connection that we open: the SYN is due.
    pub fn connecting(
        now: UtpTime,
        addr: SocketAddr,
        recv_id: u16,
        dial: UtpDial,
        initial: InitialValues,
        config: &UtpConfig,
    ) -> UtpConnection {
        let mut connection =
            UtpConnection::new(now, addr, (recv_id, recv_id.wrapping_add(1)), initial, SeqNr(0), config);
        connection.dial = dial;
        connection.is_syn_due = true;
        connection
    }

    /// A connection that a SYN opens: an acknowledgement is due.
    pub fn accepting(
        now: UtpTime,
        addr: SocketAddr,
        syn: &UtpHeader,
        initial: InitialValues,
        config: &UtpConfig,
    ) -> UtpConnection {
        let ids = (syn.id.wrapping_add(1), syn.id);
        let mut connection = UtpConnection::new(now, addr, ids, initial, syn.seq.next(), config);
        connection.phase = UtpPhase::HalfOpen;
        connection.phase_deadline = Some(now.after(config.half_open_timeout));
        connection.note_times(now, syn);
        connection.is_ack_due = true;
        connection
    }

    fn new(
        now: UtpTime,
        addr: SocketAddr,
        (recv_id, send_id): (u16, u16),
        initial: InitialValues,
        next: SeqNr,
        config: &UtpConfig,
    ) -> UtpConnection {
        let largest = if addr.ip().is_loopback() { config.max_loopback_datagram } else { config.max_datagram };
        let mtu = MtuDiscovery::new(config.base_datagram.max(HEADER + 1), largest.min(65_507));
        UtpConnection {
            addr,
            local_ip: None,
            recv_id,
            send_id,
            signals: UtpSignals::default(),
            phase: UtpPhase::SynSent,
            dial: UtpDial::Direct,
            receive: UtpReceiveBuffer::new(next, config.receive_buffer),
            // A SYN has a number, but no bytes.
            send: SendBuffer::new(initial.first.next()),
            round_trip: RttEstimator::default(),
            our_delay: BaseDelay::default(),
            their_delay: BaseDelay::default(),
            ledbat: Ledbat::new(config.target_delay, mtu.size() - HEADER),
            mtu,
            clock_offset: initial.clock_offset,
            reply_delay: 0,
            peer_window: 0,
            advertised_window: config.receive_buffer,
            recovery_start: 0,
            is_fast_retransmit_due: false,
            is_window_probe_due: false,
            is_cwnd_limited: false,
            duplicate_acks: 0,
            timeouts: 0,
            syn_attempts: 0,
            received_since_ack: 0,
            is_ack_due: false,
            is_syn_due: false,
            data_packets_received: 0,
            retransmit_at: None,
            tail_since: None,
            delayed_ack_at: None,
            phase_deadline: None,
            last_sent: now,
            last_data_sent: now,
            keep_alive: config.keep_alive,
            max_send_buffer: config.send_buffer,
            is_writer_blocked: false,
            is_end_of_stream_reported: false,
            is_released: false,
            acked_bytes: 0,
            wrong_acks: 0,
            is_fin_awaited: false,
            send_clock: SendClock::default(),
            has_new_figures: false,
        }
    }

    /// The connection's phase.
    pub fn phase(&self) -> UtpPhase {
        self.phase
    }

    /// The congestion window, and the bytes in flight.
    #[cfg(any(test, feature = "internals"))]
    pub fn window(&self) -> (usize, usize) {
        (self.ledbat.window(), self.send.in_flight())
    }

    /// The size of datagrams.
    #[cfg(any(test, feature = "internals"))]
    pub fn datagram(&self) -> usize {
        self.mtu.size()
    }

    /// An ICMP error answered our datagrams. Counts only before the connection is established, because ICMP errors can be forged.
    pub fn refuse(&mut self) {
        if self.phase == UtpPhase::SynSent && self.dial == UtpDial::Direct {
            self.close(UtpCloseReason::Refused);
        }
    }

    fn close(&mut self, reason: UtpCloseReason) {
        self.phase = UtpPhase::Closed;
        self.send = SendBuffer::new(self.send.next_seq());
        (self.is_ack_due, self.is_syn_due) = (false, false);
        (self.retransmit_at, self.tail_since, self.delayed_ack_at, self.phase_deadline) = (None, None, None, None);
        if self.is_released {
            self.signals.is_removable = true;
        } else {
            self.signals.closed = Some(reason);
        }
    }

    /// The header of our next packet.
    fn header(&mut self, now: UtpTime, kind: PacketKind, seq: SeqNr) -> UtpHeader {
        let window = self.receive.window();
        self.advertised_window = window;
        self.last_sent = now;
        UtpHeader {
            kind,
            id: self.send_id,
            timestamp: self.timestamp(now),
            delay: self.reply_delay,
            window: window as u32,
            seq,
            ack: self.receive.ack(),
        }
    }

    /// The header of a packet that ends the connection.
    pub fn reset_header(&mut self, now: UtpTime) -> UtpHeader {
        let seq = self.send.next_seq();
        self.header(now, PacketKind::Reset, seq)
    }

    fn timestamp(&self, now: UtpTime) -> u32 {
        (now.0 as u32).wrapping_add(self.clock_offset)
    }

    /// The memory that the connection's buffers have.
    pub fn allocated(&self) -> usize {
        self.receive.allocated() + self.send.allocated()
    }
}
