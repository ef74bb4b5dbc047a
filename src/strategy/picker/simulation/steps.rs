//! The steps of the random swarm.

use proptest::prelude::*;

use crate::strategy::picker::simulation::{Bitfield, PieceIndex, Plan};

/// One step; the numbers choose among the possibilities at that moment.
#[derive(Clone, Debug)]
pub(crate) enum ModelStep {
    Pick { peer: u8, n: u8, speed: u8 },
    Arrive { peer: u8, which: u8, written: bool },
    Late { peer: u8, which: u8 },
    Written { which: u8 },
    Verify { ok: bool },
    Choke { peer: u8 },
    Expire { peer: u8, from: u8 },
    Seek(Vec<u8>),
    Leave { peer: u8 },
    Join { bits: u64 },
    Have { peer: u8, piece: u8 },
    Lose { peer: u8, piece: u8 },
    Plan(PlanInput),
    Sequential(bool),
    Priorities(Option<(u64, u64)>),
    Urgent(Vec<u8>),
}

/// A plan for a torrent of any size.
#[derive(Clone, Debug)]
pub(crate) struct PlanInput {
    pub(crate) wanted: u64,
    pub(crate) early: Vec<u8>,
    pub(crate) sequential: bool,
}

impl PlanInput {
    pub(crate) fn plan(&self, pieces: u32) -> Plan {
        let early = self.early.iter().map(|&piece| PieceIndex(u32::from(piece))).collect();
        Plan { wanted: some(self.wanted, pieces), early, is_sequential: self.sequential }
    }
}

/// Those of `pieces` pieces whose bit is set.
pub(crate) fn some(bits: u64, pieces: u32) -> Bitfield {
    let mut some = Bitfield::new(pieces);
    for piece in (0..pieces).filter(|p| bits >> (p % 64) & 1 == 1) {
        some.set(PieceIndex(piece));
    }
    some
}

pub(crate) fn plan_input() -> impl Strategy<Value = PlanInput> {
    let wanted = prop_oneof![Just(u64::MAX), any::<u64>()];
    let early = prop_oneof![Just(Vec::new()), prop::collection::vec(0..30u8, 0..8)];
    (wanted, early, any::<bool>()).prop_map(|(wanted, early, sequential)| PlanInput { wanted, early, sequential })
}

pub(crate) fn step() -> impl Strategy<Value = ModelStep> {
    prop_oneof![
        6 => (any::<u8>(), 0..40u8, 0..3u8).prop_map(|(peer, n, speed)| ModelStep::Pick { peer, n, speed }),
        12 => (any::<u8>(), any::<u8>(), any::<bool>()).prop_map(|(peer, which, w)| ModelStep::Arrive { peer, which, written: w }),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(peer, which)| ModelStep::Late { peer, which }),
        4 => any::<u8>().prop_map(|which| ModelStep::Written { which }),
        4 => prop::bool::weighted(0.7).prop_map(|ok| ModelStep::Verify { ok }),
        1 => any::<u8>().prop_map(|peer| ModelStep::Choke { peer }),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(peer, from)| ModelStep::Expire { peer, from }),
        1 => any::<u8>().prop_map(|peer| ModelStep::Leave { peer }),
        1 => prop::collection::vec(0..30u8, 0..8).prop_map(ModelStep::Seek),
        2 => any::<u64>().prop_map(|bits| ModelStep::Join { bits }),
        3 => (any::<u8>(), any::<u8>()).prop_map(|(peer, piece)| ModelStep::Have { peer, piece }),
        2 => (any::<u8>(), any::<u8>()).prop_map(|(peer, piece)| ModelStep::Lose { peer, piece }),
        1 => plan_input().prop_map(ModelStep::Plan),
        1 => any::<bool>().prop_map(ModelStep::Sequential),
        1 => any::<Option<(u64, u64)>>().prop_map(ModelStep::Priorities),
        2 => prop::collection::vec(0..30u8, 0..8).prop_map(ModelStep::Urgent),
    ]
}
