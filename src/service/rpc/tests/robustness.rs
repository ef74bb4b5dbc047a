//! Requests that no well-meant client sends.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::SESSION_ID;
use super::fake::Fake;
use crate::service::rpc::methods::METHODS;
use crate::service::rpc::{RpcResponse, respond};

/// Carries out a request. The response must be JSON.
fn check(body: &[u8]) {
    if let RpcResponse::Json(response) = respond(body, &Fake::new(4), SESSION_ID) {
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
        let RpcResponse::Json(response) = respond(body.as_bytes(), &Fake::new(0), SESSION_ID) else { panic!() };
        let response: Value = serde_json::from_slice(&response).unwrap();
        assert_eq!(response["error"]["code"], -32700);
    }
}

#[test]
fn a_request_of_many_values_is_refused_before_it_is_parsed() {
    let fake = Fake::new(1);
    for body in ["[1".to_owned() + &",1".repeat(600_000) + "]", "[".to_owned() + &"{},".repeat(20_000) + "{}]"] {
        let RpcResponse::Json(response) = respond(body.as_bytes(), &fake, SESSION_ID) else { panic!() };
        let response: Value = serde_json::from_slice(&response).unwrap();
        assert_eq!(response["error"]["data"]["error_string"], "too many values");
    }
    // Commas and brackets within strings do not count.
    let path = "/srv/".to_owned() + &"[,{\\\"".repeat(200_000);
    let body = format!(r#"{{"method":"torrent-set-location","arguments":{{"ids":1,"location":"{path}"}}}}"#);
    let RpcResponse::Json(response) = respond(body.as_bytes(), &fake, SESSION_ID) else { panic!() };
    let response: Value = serde_json::from_slice(&response).unwrap();
    assert_eq!(response["result"], "success");
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
}
