//! Items of the DHT (BEP 44) for programs: looks them up and stores them in the networks of both address families.

use std::time::{Duration, Instant};

use crossbeam_channel::bounded;

use crate::discovery::dht::item::{DhtItem, ItemTarget};
use crate::discovery::dht::item_request::{ItemOutcome, ItemRequest};
use crate::discovery::dht::service::{DhtCommand, DhtService};

/// Once one family has its result, how long to wait for the other: it may have no nodes, as on a machine without IPv6.
const GRACE: Duration = Duration::from_secs(3);
/// For how long the threads may be late with the result of a request whose time is up.
const SLACK: Duration = Duration::from_secs(1);

/// What became of an item that was to be stored.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ItemPutResult {
    /// How many nodes store the item. Sixteen are usual; without any, the item is not stored.
    pub nodes: usize,
    /// The error code (BEP 44) and text of a node that refused the item: 301 if it has a sequence number other than the expected
    /// one, 302 if it has the same or a higher one.
    pub refusal: Option<(i64, String)>,
}

impl DhtService {
    /// Looks up an item (BEP 44), for as long as `timeout` says. Of a mutable item, returns the value with the highest sequence number
    /// that any of the queried nodes has.
    pub fn get_item(&self, target: &ItemTarget, timeout: Duration) -> Option<DhtItem> {
        let outcomes = self.request_item(&ItemRequest::Get(target.clone()), timeout);
        let items = outcomes.into_iter().filter_map(|outcome| match outcome {
            ItemOutcome::Found(item) => item,
            ItemOutcome::Stored { .. } => None,
        });
        items.max_by_key(DhtItem::sequence_number)
    }

    /// Stores an item at the nodes closest to it (BEP 44), for as long as `timeout` says. Nodes drop it after about two hours, unless it
    /// is stored again. With `cas`, nodes refuse a mutable item if they have it with another sequence number.
    pub fn put_item(&self, item: &DhtItem, cas: Option<i64>, timeout: Duration) -> ItemPutResult {
        let mut result = ItemPutResult::default();
        for outcome in self.request_item(&ItemRequest::Put { item: item.clone(), cas }, timeout) {
            if let ItemOutcome::Stored { nodes, refusal } = outcome {
                result.nodes += nodes;
                result.refusal = result.refusal.or(refusal);
            }
        }
        result
    }

    /// The results of both families, as far as they come in time.
    fn request_item(&self, request: &ItemRequest, timeout: Duration) -> Vec<ItemOutcome> {
        let (outcome_sender, outcomes) = bounded(self.handles.len());
        for handle in self.handles.iter() {
            handle.send_command(DhtCommand::Item(Box::new(request.clone()), timeout, outcome_sender.clone()));
        }
        drop(outcome_sender);
        let mut deadline = Instant::now() + timeout + SLACK;
        let mut received = Vec::new();
        while let Ok(outcome) = outcomes.recv_deadline(deadline) {
            if matches!(outcome, ItemOutcome::Found(Some(_)))
                && matches!(request, ItemRequest::Get(ItemTarget::Immutable(_)))
            {
                return vec![outcome];
            }
            received.push(outcome);
            deadline = deadline.min(Instant::now() + GRACE);
        }
        received
    }
}
