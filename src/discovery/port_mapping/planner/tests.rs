use proptest::prelude::*;

use super::*;

const PORT: u16 = 6881;
const ALL: &[MappingProtocol] = &[MappingProtocol::Pcp, MappingProtocol::NatPmp, MappingProtocol::Upnp];
const HOUR: Duration = Duration::from_secs(3600);

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn grant(external_port: u16, lifetime: Option<Duration>) -> PortGrant {
    PortGrant { external_port, external_address: None, lifetime, pinhole: None }
}

fn refused(protocol: MappingProtocol) -> MappingFailure {
    MappingFailure::Refused { protocol, reason: "no".to_owned() }
}

/// The question due `now`.
fn question(planner: &mut LeasePlanner, now: Duration) -> MappingRequest {
    match planner.next(now) {
        NextMappingStep::Ask(question) => question,
        NextMappingStep::Wait(until) => panic!("nothing to ask before {until:?}"),
    }
}

/// Has both granted, with the protocol that is next.
fn grant_both(planner: &mut LeasePlanner, now: Duration, external_port: u16, lifetime: Option<Duration>) {
    for transport in MappedTransport::ALL {
        assert_eq!(question(planner, now).transport, transport);
        planner.note_answer(now, transport, Ok(grant(external_port, lifetime)));
    }
}

#[test]
fn leases_are_renewed_at_half_time_with_the_granted_port() {
    let mut planner = LeasePlanner::new(PORT, ALL);
    assert_eq!(planner.state(), MappingState::Asking);
    let first = question(&mut planner, Duration::ZERO);
    assert_eq!((first.protocol, first.external_port), (MappingProtocol::Pcp, PORT));
    grant_both(&mut planner, seconds(1), 7000, Some(HOUR));
    assert_eq!(planner.next(seconds(1)), NextMappingStep::Wait(seconds(1801)));
    assert_eq!((planner.state().tcp_port(), planner.state().udp_port()), (Some(7000), Some(7000)));
    assert_eq!(question(&mut planner, seconds(1801)).external_port, 7000);
    grant_both(&mut planner, seconds(1801), 7000, Some(HOUR));
    assert_eq!(planner.next(seconds(1801)), NextMappingStep::Wait(seconds(3601)));
    assert_eq!(planner.leases().count(), 2);
}

#[test]
fn silence_leads_to_the_next_protocol_and_then_to_longer_pauses() {
    let mut planner = LeasePlanner::new(PORT, ALL);
    let mut now = seconds(10);
    for pause in [60, 120, 240, 480, 960, 1920, 3600, 3600] {
        for protocol in ALL {
            assert_eq!(question(&mut planner, now).protocol, *protocol);
            planner.note_answer(now, MappedTransport::Tcp, Err(MappingFailure::Silent));
        }
        assert_eq!(planner.state(), MappingState::Failed(MappingFailure::Silent));
        assert_eq!(planner.next(now), NextMappingStep::Wait(now + seconds(pause)));
        now += seconds(pause);
    }
    let earlier = now.saturating_sub(seconds(1000));
    planner.ask_again(earlier);
    assert_eq!(question(&mut planner, earlier).protocol, MappingProtocol::Pcp, "another network");
}

#[test]
fn a_refusal_tells_more_than_silence() {
    let mut planner = LeasePlanner::new(PORT, ALL);
    let answers = [MappingFailure::Silent, refused(MappingProtocol::NatPmp), MappingFailure::Silent];
    for answer in answers {
        let transport = question(&mut planner, Duration::ZERO).transport;
        planner.note_answer(Duration::ZERO, transport, Err(answer));
    }
    assert_eq!(planner.state(), MappingState::Failed(refused(MappingProtocol::NatPmp)));
}

#[test]
fn a_protocol_that_grants_one_of_the_two_stays() {
    let mut planner = LeasePlanner::new(PORT, ALL);
    planner.note_answer(Duration::ZERO, MappedTransport::Tcp, Ok(grant(PORT, Some(HOUR))));
    assert_eq!(question(&mut planner, Duration::ZERO).transport, MappedTransport::Udp);
    planner.note_answer(Duration::ZERO, MappedTransport::Udp, Err(refused(MappingProtocol::Pcp)));
    assert_eq!((planner.state().tcp_port(), planner.state().udp_port()), (Some(PORT), None));
    assert_eq!(planner.next(Duration::ZERO), NextMappingStep::Wait(seconds(60)));
    assert_eq!(question(&mut planner, seconds(60)).protocol, MappingProtocol::Pcp);
}

#[test]
fn a_lease_that_cannot_be_renewed_ends_and_another_protocol_is_tried() {
    let mut planner = LeasePlanner::new(PORT, ALL);
    grant_both(&mut planner, Duration::ZERO, PORT, Some(HOUR));
    let mut now = seconds(1800);
    let mut attempts = 0;
    while planner.state().tcp_port().is_some() {
        match planner.next(now) {
            NextMappingStep::Ask(question) if question.protocol == MappingProtocol::Pcp => {
                planner.note_answer(now, question.transport, Err(MappingFailure::Silent));
                attempts += 1;
            }
            NextMappingStep::Ask(question) => panic!("{question:?} while there is a lease"),
            NextMappingStep::Wait(until) => now = until,
        }
    }
    assert!(now <= HOUR + seconds(31) && (6..40).contains(&attempts), "{now:?}, {attempts} attempts");
    assert_eq!(question(&mut planner, now).protocol, MappingProtocol::NatPmp);
}

#[test]
fn a_restarted_router_is_asked_for_the_same_ports_at_once() {
    let mut planner = LeasePlanner::new(PORT, ALL);
    grant_both(&mut planner, Duration::ZERO, 7000, Some(HOUR));
    planner.ask_again(seconds(100));
    assert_eq!(question(&mut planner, seconds(100)).external_port, 7000);
    grant_both(&mut planner, seconds(100), 7000, Some(HOUR));
    assert_eq!(planner.next(seconds(100)), NextMappingStep::Wait(seconds(1900)));
}

#[test]
fn a_mapping_without_a_time_limit_is_renewed_like_one_of_an_hour() {
    let mut planner = LeasePlanner::new(PORT, ALL);
    grant_both(&mut planner, Duration::ZERO, PORT, None);
    assert_eq!(planner.next(Duration::ZERO), NextMappingStep::Wait(HOUR / 2));
    let asked = question(&mut planner, HOUR / 2).transport;
    planner.note_answer(HOUR / 2, asked, Err(MappingFailure::Silent));
    assert_eq!(planner.leases().count(), 2, "the router may only be slow");
    planner.next(HOUR);
    assert_eq!(planner.leases().count(), 0, "the router no longer knows it");
}

proptest! {
    /// Whatever the router answers, btsync asks a bounded number of times, and the state is that of the leases.
    #[test]
    fn no_answers_make_btsync_ask_without_a_pause(answers in prop::collection::vec((0_u8..4, any::<u32>(), any::<u16>()), 1..300)) {
        let (mut planner, mut now, mut asked_now) = (LeasePlanner::new(PORT, ALL), Duration::ZERO, 0);
        for (kind, lifetime, port) in answers {
            match planner.next(now) {
                NextMappingStep::Wait(until) => {
                    prop_assert!(until > now, "a wait without a wait");
                    (now, asked_now) = (until, 0);
                }
                NextMappingStep::Ask(question) => {
                    asked_now += 1;
                    prop_assert!(asked_now <= 8, "asked without a pause");
                    let lifetime = Duration::from_secs(lifetime.into());
                    planner.note_answer(now, question.transport, match kind {
                        0 => Ok(grant(port, Some(lifetime))),
                        1 => Ok(grant(port, None)),
                        2 => Err(MappingFailure::Silent),
                        _ => Err(refused(question.protocol)),
                    });
                }
            }
            let tcp = planner.leases().find(|(transport, ..)| *transport == MappedTransport::Tcp);
            prop_assert_eq!(planner.state().tcp_port(), tcp.map(|(_, _, grant)| grant.external_port));
        }
    }
}
