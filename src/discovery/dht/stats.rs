//! The statistics of a node.

use crate::discovery::dht::lookup::LookupSummary;

/// Statistics of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DhtStats {
    /// The number of nodes in the routing table.
    pub nodes: usize,
    /// The number of good nodes among them.
    pub good: usize,
    /// The number of queries sent.
    pub queries_sent: u64,
    /// The number of responses received.
    pub responses_received: u64,
    /// The number of queries received.
    pub queries_received: u64,
    /// The number of queries answered.
    pub queries_answered: u64,
    /// The number of packets received that were malformed or matched no query.
    pub invalid_packets: u64,
    /// The number of peers stored that other nodes announced.
    pub stored: usize,
    /// The number of items stored that other nodes put (BEP 44).
    pub items: usize,
    /// The number of our announces that were accepted.
    pub announced: u64,
    /// The number of searches for peers completed.
    pub searches: u64,
    /// The statistics of the last search.
    pub last_search: LookupSummary,
    /// Our external address, once enough nodes agree.
    pub external_ip: Option<std::net::IpAddr>,
    /// Whether a node with a public address to which we had sent nothing has sent a query: others can reach our UDP port.
    pub has_unsolicited_query: bool,
}
