//! The remote control over a service that only remembers what it was asked for.

mod adding;
mod changing;
mod clients;
mod dialects;
mod document;
mod fake;
mod reading;
mod robustness;
mod types;

use serde_json::Value;

use crate::service::rpc::memory::ResponseMemory;
use crate::service::rpc::{RpcResponse, respond};
use fake::Fake;

/// The session id of all tests.
const SESSION_ID: &str = "test-session-id";

/// The response to a request.
fn ask(fake: &Fake, request: &str) -> Value {
    match respond(request.as_bytes(), fake, SESSION_ID, &ResponseMemory::default()) {
        RpcResponse::Json(bytes) => serde_json::from_slice(&bytes).expect("the response is JSON"),
        RpcResponse::NoContent => Value::Null,
    }
}

/// The result of a request in JSON-RPC, which must succeed.
fn result(fake: &Fake, method: &str, params: &Value) -> Value {
    let request = serde_json::json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 1});
    let mut response = ask(fake, &request.to_string());
    assert_eq!(response["id"], 1, "{response}");
    assert!(response.get("error").is_none(), "{response}");
    response["result"].take()
}

/// The error of a request in JSON-RPC: its code and its details.
fn error(fake: &Fake, method: &str, params: &Value) -> (i64, String) {
    let request = serde_json::json!({"jsonrpc": "2.0", "method": method, "params": params, "id": 1});
    let response = ask(fake, &request.to_string());
    assert!(response.get("result").is_none(), "{response}");
    let error = &response["error"];
    (error["code"].as_i64().unwrap(), error["data"]["error_string"].as_str().unwrap_or_default().to_owned())
}

/// The `arguments` of a response in the legacy dialect, which must be a success.
fn arguments(fake: &Fake, method: &str, arguments: &Value) -> Value {
    let request = serde_json::json!({"method": method, "arguments": arguments});
    let mut response = ask(fake, &request.to_string());
    assert_eq!(response["result"], "success", "{response}");
    response["arguments"].take()
}

/// The `result` of a request in the legacy dialect.
fn legacy_result(fake: &Fake, method: &str, arguments: &Value) -> String {
    let request = serde_json::json!({"method": method, "arguments": arguments});
    ask(fake, &request.to_string())["result"].as_str().unwrap().to_owned()
}
