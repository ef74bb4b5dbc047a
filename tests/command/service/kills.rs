//! The service is killed at random moments of random changes. After each start, every change that was answered with success is
//! there, no torrent is lost, and none comes back.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::common::netns::in_network_namespace;
use crate::common::payload::Payload;
use crate::common::service::{Service, base64};
use crate::common::{TestDir, until};

/// How often the service is killed at least.
const KILLS: usize = 40;
/// The most torrents at a time.
const TORRENTS: usize = 8;

/// The properties of a torrent that the changes touch, as `torrent_get` tells them.
const FIELDS: [&str; 11] = [
    "hash_string",
    "labels",
    "download_limit",
    "download_limited",
    "upload_limit",
    "seed_ratio_limit",
    "wanted",
    "priorities",
    "tracker_list",
    "status",
    "name",
];

/// Numbers that look random and are the same in each run with the same seed.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }

    fn choice<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }
}

/// One change: its request, and what it makes of what is known.
struct Change {
    method: &'static str,
    params: Value,
    effect: Effect,
}

enum Effect {
    /// A torrent with this info-hash and these properties.
    Add(String, Value),
    Remove(String),
    /// New values of properties of a torrent.
    Set(String, Value),
    /// Another place in the queue.
    Move(String, &'static str),
    /// New values of settings.
    Session(Value),
}

/// What the service has confirmed.
#[derive(Default)]
struct Known {
    torrents: BTreeMap<String, Value>,
    queue: Vec<String>,
    session: Value,
}

impl Known {
    fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::Add(hash, properties) => {
                self.torrents.insert(hash.clone(), properties.clone());
                self.queue.push(hash.clone());
            }
            Effect::Remove(hash) => {
                self.torrents.remove(hash);
                self.queue.retain(|known| known != hash);
            }
            Effect::Set(hash, values) => merge(self.torrents.get_mut(hash).expect("a known torrent"), values),
            Effect::Move(hash, to) => {
                let at = self.queue.iter().position(|known| known == hash).expect("a known torrent");
                let last = self.queue.len() - 1;
                let to = match *to {
                    "queue_move_top" => 0,
                    "queue_move_bottom" => last,
                    "queue_move_up" => at.saturating_sub(1),
                    _ => (at + 1).min(last),
                };
                let moved = self.queue.remove(at);
                self.queue.insert(to, moved);
            }
            Effect::Session(values) => merge(&mut self.session, values),
        }
    }
}

fn merge(into: &mut Value, values: &Value) {
    for (name, value) in values.as_object().expect("an object") {
        into[name] = value.clone();
    }
}

/// A random change of what is known.
fn change(numbers: &mut Numbers, known: &Known, payloads: &[Payload]) -> Change {
    let present: Vec<String> = known.torrents.keys().cloned().collect();
    let absent: Vec<&Payload> =
        payloads.iter().filter(|payload| !known.torrents.contains_key(&payload.hex())).collect();
    let what = numbers.below(12);
    if present.is_empty() || (what < 2 && !absent.is_empty()) {
        let payload = numbers.choice(&absent);
        let label = format!("added {}", numbers.below(1000));
        let paused = numbers.below(2) == 0;
        let params = json!({"metainfo": base64(&payload.torrent("")), "paused": paused, "labels": [label]});
        let properties = json!({"labels": [label], "is_stopped": paused, "wanted": [true, true, true]});
        return Change { method: "torrent_add", params, effect: Effect::Add(payload.hex(), properties) };
    }
    let hash = numbers.choice(&present);
    let number = numbers.below(100_000);
    let set = |values: Value, properties: Value| {
        let mut params = values;
        params["ids"] = json!([hash]);
        Change { method: "torrent_set", params, effect: Effect::Set(hash.clone(), properties) }
    };
    match what {
        2 => Change { method: "torrent_remove", params: json!({"ids": [hash]}), effect: Effect::Remove(hash) },
        3 | 4 => {
            let (method, is_stopped) = numbers.choice(&[("torrent_start", false), ("torrent_stop", true)]);
            let effect = Effect::Set(hash.clone(), json!({"is_stopped": is_stopped}));
            Change { method, params: json!({"ids": [hash]}), effect }
        }
        5 => {
            let values = json!({"labels": [format!("label {number}"), "second"]});
            set(values.clone(), values)
        }
        6 => {
            let values = json!({"download_limit": number, "download_limited": number.is_multiple_of(2), "upload_limit": number + 1});
            set(values.clone(), values)
        }
        7 => {
            let file = number % 3;
            let wanted: Vec<bool> = (0..3).map(|other| other != file).collect();
            let others: Vec<usize> = (0..3).filter(|other| *other != file).collect();
            let mut priorities = [0; 3];
            priorities[others[0]] = 1;
            let values = json!({
                "files_wanted": others, "files_unwanted": [file],
                "priority_high": [others[0]], "priority_normal": [others[1], file],
            });
            set(values, json!({"wanted": wanted, "priorities": priorities}))
        }
        8 => {
            let list =
                format!("http://tracker-{number}.invalid/announce\n\nudp://second.invalid:{}\n", number % 60_000 + 1);
            set(json!({"tracker_list": list}), json!({"tracker_list": list}))
        }
        9 | 10 => {
            let method = numbers.choice(&["queue_move_top", "queue_move_bottom", "queue_move_up", "queue_move_down"]);
            Change { method, params: json!({"ids": [hash]}), effect: Effect::Move(hash, method) }
        }
        _ => {
            let values = json!({"speed_limit_up": number, "speed_limit_up_enabled": number % 2 == 1, "peer_limit_global": 50 + number % 100});
            Change { method: "session_set", params: values.clone(), effect: Effect::Session(values) }
        }
    }
}

/// Compares a service that has just started with what is known. `doubtful` was sent and not answered: it may have happened, or
/// not. Then takes over what the service has.
fn compare(service: &Service, known: &mut Known, doubtful: Option<&Effect>, round: usize) {
    let mut found = service.torrents(&[&FIELDS[..], &["queue_position", "error", "error_string"]].concat());
    found.sort_by_key(|torrent| torrent["queue_position"].as_u64());
    let names: Vec<String> =
        found.iter().map(|torrent| torrent["hash_string"].as_str().expect("text").to_owned()).collect();
    for hash in known.torrents.keys() {
        let may_be_gone = matches!(doubtful, Some(Effect::Remove(removed)) if removed == hash);
        assert!(may_be_gone || names.contains(hash), "kill {round}: {hash} is lost");
    }
    for hash in &names {
        let may_be_new = matches!(doubtful, Some(Effect::Add(added, _)) if added == hash);
        assert!(may_be_new || known.torrents.contains_key(hash), "kill {round}: {hash} has come back");
    }
    for torrent in &mut found {
        let hash = torrent["hash_string"].as_str().expect("text").to_owned();
        // The trackers do not exist: 2 is their failure. 3 would be one of this machine.
        assert_ne!(torrent["error"], json!(3), "kill {round}: {}", torrent["error_string"]);
        torrent["is_stopped"] = (torrent["status"] == 0).into();
        let before = known.torrents.get(&hash).cloned();
        let after = match doubtful {
            Some(Effect::Set(changed, values)) if *changed == hash => before.clone().map(|mut old| {
                merge(&mut old, values);
                old
            }),
            Some(Effect::Add(added, properties)) if *added == hash => Some(properties.clone()),
            _ => before.clone(),
        };
        let agrees = |with: &Option<Value>| {
            let with = with.as_ref().and_then(Value::as_object);
            with.is_some_and(|values| values.iter().all(|(name, value)| torrent[name] == *value))
        };
        assert!(agrees(&before) || agrees(&after), "kill {round}: {torrent}\nbefore {before:?}\nafter {after:?}");
        let taken = if agrees(&after) { after } else { before };
        known.torrents.insert(hash, taken.expect("the torrent"));
    }
    known.torrents.retain(|hash, _| names.contains(hash));
    // A torrent that was being moved may be anywhere; the others keep their order.
    let moving = match doubtful {
        Some(Effect::Move(hash, _) | Effect::Add(hash, _) | Effect::Remove(hash)) => Some(hash),
        _ => None,
    };
    let others = |queue: &[String]| queue.iter().filter(|hash| Some(*hash) != moving).cloned().collect::<Vec<_>>();
    assert_eq!(others(&names), others(&known.queue), "kill {round}: the queue");
    known.queue = names;
    let session = service.rpc("session_get", json!({}));
    let has =
        |values: &Value| values.as_object().is_none_or(|all| all.iter().all(|(name, value)| session[name] == *value));
    match doubtful {
        Some(Effect::Session(values)) if has(values) => merge(&mut known.session, values),
        _ => assert!(has(&known.session), "kill {round}: settings: {session}\nnot {}", known.session),
    }
}

#[test]
fn kills_lose_no_confirmed_change() {
    in_network_namespace("kills_lose_no_confirmed_change", &[], || {
        let temp = TestDir::new();
        let files = [("a.bin", 40_000), ("b.bin", 20_000), ("c.bin", 70_000)];
        let payloads: Vec<_> =
            (0..TORRENTS).map(|at| Payload::tree(&format!("torrent {at}"), &files, 16_384)).collect();
        let seed = std::env::var("KILLS_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed: u64 = seed.unwrap_or_else(|| u64::from(std::process::id()) * 7919 + 1);
        println!("KILLS_SEED={seed}");
        let mut numbers = Numbers(seed);
        let mut known = Known { session: json!({}), ..Known::default() };
        let (mut doubtful, mut confirmed): (Option<Effect>, usize) = (None, 0);
        let mut round = 0;
        // More kills, if those came after few requests.
        while round < KILLS || confirmed < 2 * KILLS {
            let service = Service::start(&temp, "service", &[]);
            compare(&service, &mut known, doubtful.take().as_ref(), round);
            // At a moment in or after one of the next requests.
            let (requests, delay) = (numbers.below(8), Duration::from_micros(numbers.below(10_000) as u64));
            let (is_killed, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    until("some requests are answered", || answered.load(Ordering::Relaxed) >= requests);
                    std::thread::sleep(delay);
                    is_killed.store(true, Ordering::Relaxed);
                    service.running.signal("KILL");
                });
                while doubtful.is_none() {
                    answered.fetch_add(1, Ordering::Relaxed);
                    let next = change(&mut numbers, &known, &payloads);
                    match service.try_rpc(next.method, &next.params) {
                        Some(Ok(_)) => {
                            known.apply(&next.effect);
                            confirmed += 1;
                        }
                        // A torrent that is just being removed cannot be added yet.
                        Some(Err(error)) if error.contains("try again") => {}
                        Some(Err(error)) => panic!("{} {}: {error}", next.method, next.params),
                        None => {
                            assert!(is_killed.load(Ordering::Relaxed), "no answer to {}", next.method);
                            doubtful = Some(next.effect);
                        }
                    }
                }
            });
            round += 1;
        }
        let service = Service::start(&temp, "service", &[]);
        compare(&service, &mut known, doubtful.as_ref(), round);
        println!("{round} kills, {confirmed} confirmed changes");
    });
}
