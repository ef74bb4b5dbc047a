//! Requests that no well-meant client sends.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::SESSION_ID;
use super::fake::Fake;
use crate::service::rpc::memory::{MAX_RESPONSES, ResponseMemory};
use crate::service::rpc::methods::METHODS;
use crate::service::rpc::{RpcResponse, respond};

/// Carries out a request. The response must be JSON.
fn check(body: &[u8]) {
    if let RpcResponse::Json(response) = respond(body, &Fake::new(4), SESSION_ID, &ResponseMemory::default()) {
        serde_json::from_slice::<Value>(&response).expect("the response is JSON");
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let words = prop::sample::select(vec![
        "ids",
        "id",
        "fields",
        "table",
        "recently-active",
        "name",
        "/srv",
        "magnet:?xt=urn:btih:x",
        "files",
        "1.5",
        "\u{fffd}\0",
        "abababababababababababababababab00000001",
        "http://t.example/",
        "required",
        "wanted",
        "\"\\",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-3i64..6).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        words.prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec(("[a-z_-]{1,12}", inner), 0..6)
                .prop_map(|members| Value::from(members.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Names of parameters of all methods.
const PARAMETERS: [&str; 24] = [
    "ids",
    "id",
    "fields",
    "format",
    "path",
    "name",
    "location",
    "move",
    "filename",
    "metainfo",
    "labels",
    "files_wanted",
    "priority_high",
    "tracker_list",
    "tracker_add",
    "tracker_replace",
    "seed_ratio_limit",
    "seed_ratio_mode",
    "encryption",
    "peer_port",
    "alt_speed_time_day",
    "download_dir",
    "speed_limit_up",
    "queue_position",
];

fn any_request() -> impl Strategy<Value = Value> {
    let method = prop::sample::select(METHODS.iter().map(|method| method.name).collect::<Vec<_>>());
    let params = prop::collection::vec((prop::sample::select(&PARAMETERS[..]), any_json()), 0..6);
    (method, params, any::<bool>(), any_json()).prop_map(|(method, params, is_old, id)| {
        let params: Map<String, Value> = params.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        if is_old {
            json!({"method": method.replace('_', "-"), "arguments": params, "tag": id})
        } else {
            json!({"jsonrpc": "2.0", "method": method, "params": params, "id": id})
        }
    })
}

proptest! {
    #[test]
    fn any_bytes_get_json(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        check(&bytes);
    }

    #[test]
    fn any_json_gets_json(value in any_json()) {
        check(value.to_string().as_bytes());
    }

    #[test]
    fn any_parameters_get_json(request in any_request()) {
        check(request.to_string().as_bytes());
    }
}

#[test]
fn deep_nesting_is_refused() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let body = open.repeat(5000) + "1" + &close.repeat(5000);
        let RpcResponse::Json(response) =
            respond(body.as_bytes(), &Fake::new(0), SESSION_ID, &ResponseMemory::default())
        else {
            panic!()
        };
        let response: Value = serde_json::from_slice(&response).unwrap();
        assert_eq!(response["error"]["code"], -32700);
    }
}

#[test]
fn a_request_of_many_values_is_refused_before_it_is_parsed() {
    let fake = Fake::new(1);
    for body in ["[1".to_owned() + &",1".repeat(600_000) + "]", "[".to_owned() + &"{},".repeat(20_000) + "{}]"] {
        let RpcResponse::Json(response) = respond(body.as_bytes(), &fake, SESSION_ID, &ResponseMemory::default())
        else {
            panic!()
        };
        let response: Value = serde_json::from_slice(&response).unwrap();
        assert_eq!(response["error"]["data"]["error_string"], "too many values");
    }
    // Commas and brackets within strings do not count.
    let path = "/srv/".to_owned() + &"[,{\\\"".repeat(200_000);
    let body = format!(r#"{{"method":"torrent-set-location","arguments":{{"ids":1,"location":"{path}"}}}}"#);
    let RpcResponse::Json(response) = respond(body.as_bytes(), &fake, SESSION_ID, &ResponseMemory::default()) else {
        panic!()
    };
    let response: Value = serde_json::from_slice(&response).unwrap();
    assert_eq!(response["result"], "a path has at most 4096 bytes and no NUL character");
}

#[test]
fn paths_that_the_system_would_refuse_are_refused_at_once() {
    let fake = Fake::new(1);
    for path in ["/a".repeat(2049), "/a\0b".to_owned()] {
        let requests = [
            ("free_space", json!({"path": path})),
            ("session_set", json!({"download_dir": path})),
            ("session_set", json!({"incomplete_dir": path})),
            ("torrent_add", json!({"filename": "magnet:?xt=urn:btih:x", "download_dir": path})),
            ("torrent_set", json!({"location": path})),
            ("torrent_set_location", json!({"location": path})),
        ];
        for (method, params) in requests {
            assert_eq!(super::error(&fake, method, &params).0, -32602, "{method}");
        }
    }
    assert!(fake.asked().is_empty());
}

#[test]
fn more_trackers_than_a_torrent_has_are_refused() {
    let fake = Fake::new(1);
    let urls: Vec<String> = (0..600).map(|n| format!("udp://{n}")).collect();
    for params in [json!({"tracker_add": urls}), json!({"tracker_list": urls.join("\n")})] {
        let (code, why) = super::error(&fake, "torrent_set", &params);
        assert_eq!((code, why.as_str()), (-32602, "a torrent has at most 512 trackers"));
    }
    assert!(fake.asked().is_empty());
}

#[test]
fn a_field_or_an_id_that_is_repeated_costs_nothing_more() {
    let fake = Fake::new(2);
    let request = json!({"method": "torrent-get", "arguments": {
        "ids": vec![1; 20_000], "fields": vec!["files"; 20_000],
    }});
    let response = super::ask(&fake, &request.to_string());
    assert_eq!(response["arguments"]["torrents"].as_array().unwrap().len(), 1);
    assert_eq!(fake.read(), ["files"]);
    super::ask(
        &fake,
        &json!({"method": "torrent-stop", "arguments": {"ids": vec!["recently-active"; 20_000]}}).to_string(),
    );
    assert_eq!(fake.read(), ["recently active"]);
}

#[test]
fn responses_that_are_too_large_are_errors_and_those_of_a_batch_before_them_stay() {
    let memory = ResponseMemory::default();
    let mut fake = Fake::new(3);
    fake.torrents[0].name = "x".repeat(MAX_RESPONSES / 2 + (1 << 20));
    let large = json!({"fields": ["name"], "ids": [1, 2]});
    let small = json!({"fields": ["name"], "ids": [2]});
    let ask = |request: &Value| {
        let RpcResponse::Json(response) = respond(request.to_string().as_bytes(), &fake, SESSION_ID, &memory) else {
            panic!("no response")
        };
        serde_json::from_slice::<Value>(&response).expect("the response is JSON")
    };
    let get = |id: u32, params: &Value| json!({"jsonrpc": "2.0", "method": "torrent_get", "params": params, "id": id});
    let batch = ask(&json!([get(1, &large), get(2, &large), get(3, &large), get(4, &small)]));
    assert_eq!(batch[0]["result"]["torrents"][1]["name"], "Torrent 2");
    // The second has no memory; after it, no further one of the batch is carried out.
    let codes: Vec<i64> = (1..4).map(|at| batch[at]["error"]["code"].as_i64().expect("a code")).collect();
    assert_eq!(codes, [-32603; 3]);
    assert_eq!(batch[3]["id"], 4);
    the_legacy_dialect_has_an_error_too(&fake, &memory);
    assert_eq!(ask(&get(1, &large))["result"]["torrents"][1]["name"], "Torrent 2", "the memory is free again");
}

/// The legacy dialect has an error too, with the tag.
fn the_legacy_dialect_has_an_error_too(fake: &Fake, memory: &ResponseMemory) {
    let mut other = memory.reserve();
    assert!(other.grow_to(MAX_RESPONSES / 4 * 3));
    let request = json!({"method": "torrent-get", "arguments": {"fields": ["name", "id"], "ids": [1, 2]}, "tag": 7});
    let RpcResponse::Json(response) = respond(request.to_string().as_bytes(), fake, SESSION_ID, memory) else {
        panic!("no response")
    };
    let response: Value = serde_json::from_slice(&response).expect("the response is JSON");
    let why = "the response is too large: ask for fewer torrents or fields, or try again later";
    assert_eq!((response["result"].as_str(), response["tag"].as_i64()), (Some(why), Some(7)));
    assert_eq!(response["arguments"], json!({}));
}
