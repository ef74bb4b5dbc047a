//! Requests and responses of both dialects, whatever the method.

use serde_json::{Value, json};

use super::fake::{Asked, Fake};
use super::{SESSION_ID, arguments, ask, error, legacy_result, result};
use crate::service::rpc::memory::ResponseMemory;
use crate::service::rpc::{RpcResponse, respond};

#[test]
fn the_legacy_dialect_answers_with_result_arguments_and_tag() {
    let fake = Fake::new(3);
    for (tag, expected) in
        [("17", Some(json!(17))), ("\"a\"", Some(json!("a"))), ("null", Some(Value::Null)), ("[1]", None)]
    {
        let request = format!(r#"{{"method":"session-get","arguments":{{"fields":["rpc-version"]}},"tag":{tag}}}"#);
        let response = ask(&fake, &request);
        assert_eq!(response["result"], "success");
        assert_eq!(response["arguments"], json!({"rpc-version": 18}));
        assert_eq!(response.get("tag").cloned(), expected);
    }
    let response = ask(&fake, r#"{"method":"torrent-stop"}"#);
    assert_eq!(response, json!({"result": "success", "arguments": {}}));
}

#[test]
fn the_legacy_dialect_says_why_a_request_failed() {
    let fake = Fake::new(3);
    for (request, text) in [
        (r#"{"method":"no-such-method","tag":3}"#, "method name not recognized"),
        (r#"{"method":"btsync_pieces","arguments":{"id":1},"tag":3}"#, "method name not recognized"),
        (r#"{"tag":3}"#, "no method name"),
        (r#"{"method":"torrent-get","tag":3}"#, "no fields specified"),
        (r#"{"method":"torrent-stop","arguments":[1],"tag":3}"#, "parameters must be an object"),
    ] {
        assert_eq!(ask(&fake, request), json!({"result": text, "arguments": {}, "tag": 3}), "{request}");
    }
    assert!(fake.asked().is_empty());
}

#[test]
fn json_rpc_returns_the_id_as_it_came() {
    let fake = Fake::new(1);
    for id in ["1", "-7", "1.5", "\"a\"", "null"] {
        let request =
            format!(r#"{{"jsonrpc":"2.0","method":"session_get","params":{{"fields":["version"]}},"id":{id}}}"#);
        let RpcResponse::Json(response) = respond(request.as_bytes(), &fake, SESSION_ID, &ResponseMemory::default())
        else {
            panic!("{id}")
        };
        let response = String::from_utf8(response).unwrap();
        let version = concat!("4.1.0 (btsync ", env!("CARGO_PKG_VERSION"), ")");
        assert_eq!(response, format!(r#"{{"jsonrpc":"2.0","result":{{"version":"{version}"}},"id":{id}}}"#));
    }
}

#[test]
fn json_rpc_has_numbers_for_errors() {
    let fake = Fake::new(3);
    assert_eq!(error(&fake, "torrent-get", &json!({})).0, -32601);
    assert_eq!(error(&fake, "torrent_get", &json!({})), (-32602, "no fields specified".to_owned()));
    assert_eq!(error(&fake, "torrent_stop", &json!([1])).0, -32602);
    assert_eq!(error(&fake, "torrent_set_location", &json!({"location": "x"})).0, 3);
    let response = ask(&fake, r#"{"jsonrpc":"2.0","method":"nope","id":"x"}"#);
    let expected = json!({"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": "x"});
    assert_eq!(response, expected);
}

#[test]
fn what_is_no_request_is_refused_in_json_rpc() {
    let fake = Fake::new(1);
    for (body, code) in [
        ("", -32700),
        ("{", -32700),
        ("\u{1}", -32700),
        ("7", -32600),
        ("null", -32600),
        ("[]", -32600),
        (r#"{"jsonrpc":"1.0","method":"session_get","id":1}"#, -32600),
        (r#"{"jsonrpc":2.0,"method":"session_get","id":1}"#, -32600),
        (r#"{"jsonrpc":"2.0","method":"session_get","id":{}}"#, -32600),
        (r#"{"jsonrpc":"2.0","method":"session_get","id":true}"#, -32600),
    ] {
        let response = ask(&fake, body);
        assert_eq!((&response["error"]["code"], &response["id"]), (&json!(code), &Value::Null), "{body}");
    }
}

#[test]
fn a_notification_is_carried_out_without_an_answer() {
    let fake = Fake::new(3);
    assert_eq!(ask(&fake, r#"{"jsonrpc":"2.0","method":"torrent_stop","params":{"ids":[1]}}"#), Value::Null);
    assert!(matches!(&fake.asked()[..], [Asked::Stop(ids)] if *ids == [1]));
    for method in ["torrent_get", "no_such_method", "torrent_set_location"] {
        let request = json!({"jsonrpc": "2.0", "method": method, "params": {"fields": ["files"]}});
        assert_eq!(ask(&fake, &request.to_string()), Value::Null);
    }
    assert!(fake.asked().is_empty() && fake.read().is_empty());
}

#[test]
fn a_batch_is_answered_in_its_order() {
    let fake = Fake::new(3);
    let batch = json!([
        {"jsonrpc": "2.0", "method": "torrent_start", "params": {"ids": 1}},
        {"jsonrpc": "2.0", "method": "torrent_get", "params": {"ids": 1, "fields": ["id"]}, "id": 1},
        {"method": "session-get", "tag": 2},
        {"jsonrpc": "2.0", "method": "nope", "id": 3},
        5,
        {"jsonrpc": "2.0", "method": "torrent_stop", "params": {"ids": 2}, "id": 4},
    ]);
    let response = ask(&fake, &batch.to_string());
    let responses = response.as_array().unwrap();
    assert_eq!(responses.len(), 5);
    assert_eq!(responses[0]["result"], json!({"torrents": [{"id": 1}]}));
    assert_eq!(responses[1]["error"]["code"], -32600);
    assert_eq!(responses[2]["error"]["code"], -32601);
    assert_eq!(responses[3]["error"]["data"]["error_string"], "request must be an Object");
    assert_eq!(responses[4], json!({"jsonrpc": "2.0", "result": {}, "id": 4}));
    assert!(matches!(&fake.asked()[..], [Asked::Start(_, false), Asked::Stop(_)]));

    let notification = json!({"jsonrpc": "2.0", "method": "torrent_stop"});
    assert_eq!(ask(&fake, &json!([notification, notification]).to_string()), Value::Null);
    assert_eq!(ask(&fake, &json!(vec![notification; 101]).to_string())["error"]["code"], -32600);
    assert_eq!(fake.asked().len(), 2);
}

#[test]
fn parameters_have_the_legacy_names_only_in_the_legacy_dialect() {
    let fake = Fake::new(3);
    arguments(&fake, "torrent-remove", &json!({"ids": [1], "delete-local-data": true}));
    arguments(&fake, "torrent-remove", &json!({"ids": [1], "delete_local_data": true}));
    result(&fake, "torrent_remove", &json!({"ids": [1], "delete-local-data": true}));
    let removals: Vec<bool> = fake
        .asked()
        .iter()
        .map(|asked| match asked {
            Asked::Remove(_, deletes_data) => *deletes_data,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(removals, [true, true, false]);
}

#[test]
fn types_are_taken_as_transmission_takes_them() {
    let fake = Fake::new(3);
    for (value, expected) in
        [(json!(1), true), (json!("true"), true), (json!(0), false), (json!(2), false), (json!([]), false)]
    {
        arguments(&fake, "torrent-remove", &json!({"ids": 1, "delete-local-data": value}));
        assert!(matches!(&fake.asked()[..], [Asked::Remove(_, deletes)] if *deletes == expected));
    }
    arguments(
        &fake,
        "torrent-set",
        &json!({"ids": 1, "seedRatioLimit": "1.5", "downloadLimit": "5", "peer-limit": 1e9}),
    );
    let (_, change) = fake.change();
    assert_eq!((change.seed_ratio, change.down_limit, change.peer_limit), (Some(1.5), None, None));
    arguments(&fake, "torrent-set", &json!({"ids": 1, "seedRatioLimit": 2, "downloadLimit": -4, "peer-limit": 70000}));
    let (_, change) = fake.change();
    assert_eq!((change.seed_ratio, change.down_limit, change.peer_limit), (Some(2.0), Some(0), Some(65535)));
}

#[test]
fn ids_name_torrents_in_many_ways() {
    let fake = Fake::new(40);
    let hash = super::fake::hash(3).hex();
    for (ids, expected) in [
        (json!(2), vec![2]),
        (json!([3, 1, 3]), vec![3, 1]),
        (json!([hash, 1, 3, hash.to_uppercase()]), vec![3, 1]),
        (json!(hash), vec![3]),
        (json!("recently-active"), vec![1]),
        (json!("recently_active"), vec![1]),
        (json!([]), vec![]),
        (json!([99, -1, "x", "ab", null, 1.5, 1e300]), vec![]),
        (json!(null), vec![]),
        (json!({}), vec![]),
        (json!((1..=50).collect::<Vec<_>>()), (1..=40).collect()),
    ] {
        arguments(&fake, "torrent-start", &json!({"ids": ids}));
        match &fake.asked()[..] {
            [Asked::Start(started, false)] => assert_eq!(*started, expected, "{ids}"),
            [] => assert!(expected.is_empty(), "{ids}"),
            other => panic!("{other:?}"),
        }
    }
    arguments(&fake, "torrent-start", &json!({"id": 5}));
    assert!(matches!(&fake.asked()[..], [Asked::Start(ids, _)] if *ids == [5]));
    arguments(&fake, "torrent-start", &json!({}));
    assert!(matches!(&fake.asked()[..], [Asked::Start(ids, _)] if ids.len() == 40));
    let all = arguments(&fake, "torrent-get", &json!({"ids": null, "fields": ["id"]}));
    assert_eq!(all["torrents"].as_array().unwrap().len(), 40);
}

#[test]
fn errors_of_the_service_reach_the_client() {
    use crate::service::model::ControlError;
    let mut fake = Fake::new(1);
    fake.failure = Some(ControlError::System("No space left on device".to_owned()));
    assert_eq!(legacy_result(&fake, "torrent-start", &json!({"ids": 1})), "No space left on device");
    assert_eq!(error(&fake, "torrent_start", &json!({"ids": 1})), (5, "No space left on device".to_owned()));
    fake.failure = Some(ControlError::OutsideFolders("/etc".into()));
    let (code, text) = error(&fake, "torrent_set_location", &json!({"ids": 1, "location": "/etc", "move": true}));
    assert_eq!(code, -32602);
    assert!(text.starts_with("/etc: outside"), "{text}");
}
