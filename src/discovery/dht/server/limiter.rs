//! How many queries a node answers: limits per address, per subnet and in total, and stricter ones for large responses. Pure.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::Duration;

use crate::net::networks::Network;

/// The rate limit per address (IPv6 /64): sustained and burst.
pub(super) const PER_ADDRESS: QueryRate = QueryRate { per_second: 5, burst: 30 };
/// The rate limit per subnet (/24, IPv6 /48), so that one party with many addresses leaves most of the total to others.
pub(super) const PER_SUBNET: QueryRate = QueryRate { per_second: 40, burst: 100 };
/// The rate limit for all addresses together.
pub(super) const IN_TOTAL: QueryRate = QueryRate { per_second: 200, burst: 400 };
/// The rate limit per address (IPv6 /64) for items that are larger than other responses.
const LARGE_PER_ADDRESS: QueryRate = QueryRate { per_second: 1, burst: 8 };
/// The rate limit for such items to all addresses together.
const LARGE_IN_TOTAL: QueryRate = QueryRate { per_second: 10, burst: 50 };
/// The most addresses whose rate is tracked, and the most subnets.
pub(super) const MAX_NETWORKS: usize = 4096;

#[derive(Clone, Copy, Debug)]
pub(super) struct QueryRate {
    pub per_second: u64,
    pub burst: u64,
}

/// The remaining allowance within a [`QueryRate`], in thousandths of a query.
#[derive(Clone, Copy, Debug)]
pub(super) struct QueryBudget {
    left: u64,
    at: Duration,
}

impl QueryBudget {
    fn full(rate: QueryRate, now: Duration) -> QueryBudget {
        QueryBudget { left: rate.burst * 1000, at: now }
    }

    fn refill(&mut self, rate: QueryRate, now: Duration) {
        let passed = now.saturating_sub(self.at).as_millis() as u64;
        self.left = passed.saturating_mul(rate.per_second).saturating_add(self.left).min(rate.burst * 1000);
        self.at = now;
    }

    fn is_enough(&self) -> bool {
        self.left >= 1000
    }

    fn take(&mut self) {
        self.left = self.left.saturating_sub(1000);
    }
}

/// The allowances of networks of one size.
#[derive(Debug)]
pub(super) struct NetworkBudgets {
    rate: QueryRate,
    pub(super) budgets: HashMap<Network, QueryBudget>,
}

impl NetworkBudgets {
    fn new(rate: QueryRate) -> NetworkBudgets {
        NetworkBudgets { rate, budgets: HashMap::new() }
    }

    /// The present allowance of a network; `None` if too many networks are tracked.
    fn get(&mut self, now: Duration, network: Network) -> Option<&mut QueryBudget> {
        let QueryRate { per_second, burst } = self.rate;
        if self.budgets.len() >= MAX_NETWORKS && !self.budgets.contains_key(&network) {
            // Networks that have their full allowance again need not be tracked.
            let idle = Duration::from_secs(burst.div_ceil(per_second));
            self.budgets.retain(|_, allowance| now.saturating_sub(allowance.at) < idle);
            if self.budgets.len() >= MAX_NETWORKS {
                return None;
            }
        }
        let budget = self.budgets.entry(network).or_insert_with(|| QueryBudget::full(self.rate, now));
        budget.refill(self.rate, now);
        Some(budget)
    }
}

/// Decides which queries to answer.
#[derive(Debug)]
pub(super) struct QueryLimiter {
    pub addresses: NetworkBudgets,
    subnets: NetworkBudgets,
    total: QueryBudget,
    large: NetworkBudgets,
    large_total: QueryBudget,
}

impl QueryLimiter {
    pub fn new() -> QueryLimiter {
        QueryLimiter {
            addresses: NetworkBudgets::new(PER_ADDRESS),
            subnets: NetworkBudgets::new(PER_SUBNET),
            total: QueryBudget::full(IN_TOTAL, Duration::ZERO),
            large: NetworkBudgets::new(LARGE_PER_ADDRESS),
            large_total: QueryBudget::full(LARGE_IN_TOTAL, Duration::ZERO),
        }
    }

    /// Whether to send this address, which may be forged, an item that is much larger than the query; counts it against the limits.
    pub fn may_send_large(&mut self, now: Duration, ip: IpAddr) -> bool {
        self.large_total.refill(LARGE_IN_TOTAL, now);
        if !self.large_total.is_enough() {
            return false;
        }
        let Some(own) = self.large.get(now, Network::host(ip)).filter(|own| own.is_enough()) else { return false };
        own.take();
        self.large_total.take();
        true
    }

    /// Whether to answer a query from this address; counts it against the limits.
    pub fn may_answer(&mut self, now: Duration, ip: IpAddr) -> bool {
        // Check the total first, so that a flood from forged addresses adds few of them to the maps.
        self.total.refill(IN_TOTAL, now);
        if !self.total.is_enough() {
            return false;
        }
        // And the subnet before the address, for the same reason.
        let subnet = self.subnets.get(now, Network::public_subnet(ip)).filter(|subnet| subnet.is_enough());
        let Some(subnet) = subnet else { return false };
        let Some(own) = self.addresses.get(now, Network::host(ip)).filter(|own| own.is_enough()) else { return false };
        own.take();
        subnet.take();
        self.total.take();
        true
    }
}
