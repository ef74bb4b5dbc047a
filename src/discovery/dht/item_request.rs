//! Requests of this program to get or to store items (BEP 44): a lookup for the nodes closest to the item, and `put` queries to
//! them. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::discovery::dht::id::NodeId;
use crate::discovery::dht::item::{DhtItem, FoundItem, ItemTarget};
use crate::discovery::dht::lookup::Lookup;
use crate::discovery::dht::message::Query;
use crate::discovery::dht::node::{Dht, DhtOutput};
use crate::discovery::dht::running::{LookupGoal, QueryPurpose};
use crate::discovery::dht::table::K;

/// The most requests at a time.
const MAX_REQUESTS: usize = 16;
/// When to repeat a lookup that reached few nodes, as it does soon after the start.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// How often a lookup is made that reaches a few nodes, but not eight. One that reaches none is repeated until the deadline.
const MAX_ATTEMPTS: u32 = 3;

/// What to do.
#[derive(Clone, Debug)]
pub enum ItemRequest {
    /// Find an item.
    Get(ItemTarget),
    /// Store an item at the nodes closest to it. Nodes refuse it if they have a sequence number other than `cas`.
    Put {
        /// The item.
        item: DhtItem,
        /// The expected sequence number.
        cas: Option<i64>,
    },
}

/// The result of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ItemOutcome {
    /// The item with the highest sequence number that any node sent.
    Found(Option<DhtItem>),
    /// How many nodes store the item now, and the last error of one that refused it.
    Stored {
        /// The number of nodes.
        nodes: usize,
        /// The error code and text.
        refusal: Option<(i64, String)>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RequestStep {
    /// The next lookup starts at this time.
    Waiting(Duration),
    LookingUp,
    /// This many `put` queries are not answered yet.
    Putting(usize),
}

#[derive(Debug)]
struct RunningItemRequest {
    request: ItemRequest,
    deadline: Duration,
    step: RequestStep,
    /// The number of lookups that reached a node.
    attempts: u32,
    found: Option<DhtItem>,
    stored: usize,
    refusal: Option<(i64, String)>,
}

/// The requests that run, by their numbers.
#[derive(Debug, Default)]
pub(crate) struct ItemRequests {
    running: BTreeMap<u32, RunningItemRequest>,
    next: u32,
}

impl ItemRequest {
    fn target(&self) -> ItemTarget {
        match self {
            ItemRequest::Get(target) => target.clone(),
            ItemRequest::Put { item, .. } => item.target(),
        }
    }
}

impl ItemRequests {
    /// When [`Dht::run_item_requests`] has something to do next.
    pub fn next_deadline(&self, has_nodes: bool) -> Option<Duration> {
        let dues = self.running.values().map(|request| match request.step {
            RequestStep::Waiting(due) if has_nodes => due.min(request.deadline),
            _ => request.deadline,
        });
        dues.min()
    }
}

impl Dht {
    /// Gets or stores an item until `deadline`; returns the number of the [`DhtOutput::Item`] that has the result. `None` if too many
    /// requests run.
    pub fn request_item(&mut self, now: Duration, request: ItemRequest, deadline: Duration) -> Option<u32> {
        if self.items.running.len() >= MAX_REQUESTS {
            return None;
        }
        let number = self.items.next;
        self.items.next = self.items.next.wrapping_add(1);
        let step = RequestStep::Waiting(now);
        let (found, refusal) = (None, None);
        self.items
            .running
            .insert(number, RunningItemRequest { request, deadline, step, attempts: 0, found, stored: 0, refusal });
        self.handle_deadlines(now);
        Some(number)
    }

    /// Starts lookups that are due, and ends requests whose time is up.
    pub(crate) fn run_item_requests(&mut self, now: Duration) {
        if self.items.running.is_empty() {
            return;
        }
        let has_nodes = self.has_nodes();
        let mut starting: Vec<(u32, NodeId)> = Vec::new();
        let mut ending = Vec::new();
        for (number, request) in &mut self.items.running {
            if now >= request.deadline {
                ending.push(*number);
            } else if has_nodes && matches!(request.step, RequestStep::Waiting(due) if now >= due) {
                request.step = RequestStep::LookingUp;
                starting.push((*number, request.request.target().id()));
            }
        }
        for number in ending {
            self.end_item_request(number);
        }
        for (number, target) in starting {
            self.start(LookupGoal::Item(number), target);
        }
    }

    /// A node sent an item in a lookup of this request.
    pub(crate) fn item_found(&mut self, number: u32, found: &FoundItem) {
        let Some(request) = self.items.running.get_mut(&number) else { return };
        let ItemRequest::Get(target) = &request.request else { return };
        let best = request.found.as_ref().and_then(DhtItem::sequence_number);
        // Checking a signature takes time, so only what may be newer is checked.
        let is_newer = match found {
            FoundItem::Mutable(_, signed) => best.is_none_or(|best| signed.seq > best),
            FoundItem::Immutable(_) => true,
            FoundItem::NotNewer(_) => false,
        };
        let Some(item) = is_newer.then(|| target.check(found.clone())).flatten() else { return };
        let is_final = item.sequence_number().is_none();
        request.found = Some(item);
        if is_final {
            self.end_item_request(number);
        }
    }

    /// The lookup of a request is done: ends the request, stores the item, or tries again.
    pub(crate) fn finish_item_lookup(&mut self, now: Duration, number: u32, lookup: &Lookup) {
        let Some(request) = self.items.running.get_mut(&number) else { return };
        let answers = lookup.summary().answers;
        request.attempts += u32::from(answers > 0);
        let is_enough = answers >= K || request.attempts >= MAX_ATTEMPTS;
        match &request.request {
            ItemRequest::Get(_) if is_enough || request.found.is_some() => self.end_item_request(number),
            ItemRequest::Put { item, cas } if is_enough => {
                let put = item.to_put(*cas);
                let targets = lookup.announce_targets();
                request.step = RequestStep::Putting(targets.len());
                if targets.is_empty() {
                    self.end_item_request(number);
                }
                for (to, token) in targets {
                    let query = Query::Put { token, put: Box::new(put.clone()) };
                    self.query(now, to, query, QueryPurpose::Put(number));
                }
            }
            _ => request.step = RequestStep::Waiting(now + RETRY_INTERVAL),
        }
    }

    /// A node has stored an item, refused it with an error, or not answered.
    pub(crate) fn on_put_result(&mut self, number: u32, result: Result<(), Option<(i64, String)>>) {
        let Some(request) = self.items.running.get_mut(&number) else { return };
        match result {
            Ok(()) => request.stored += 1,
            Err(Some(refusal)) => request.refusal = Some(refusal),
            Err(None) => {}
        }
        if let RequestStep::Putting(left) = &mut request.step {
            *left = left.saturating_sub(1);
            if *left == 0 {
                self.end_item_request(number);
            }
        }
    }

    fn end_item_request(&mut self, number: u32) {
        let Some(request) = self.items.running.remove(&number) else { return };
        let outcome = match request.request {
            ItemRequest::Get(_) => ItemOutcome::Found(request.found),
            ItemRequest::Put { .. } => ItemOutcome::Stored { nodes: request.stored, refusal: request.refusal },
        };
        self.lookups.running.retain(|_, (_, goal)| *goal != LookupGoal::Item(number));
        self.report(DhtOutput::Item { number, outcome });
    }
}
