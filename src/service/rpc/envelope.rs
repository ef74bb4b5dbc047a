//! Requests and responses around the methods: which dialect, batches, errors.

use serde_json::{Map, Value};

use crate::service::rpc::call::MethodCall;
use crate::service::rpc::error::{ErrorCode, RpcError};
use crate::service::rpc::json::JsonWriter;
use crate::service::rpc::memory::ResponseMemory;
use crate::service::rpc::methods;
use crate::service::rpc::params::{Params, to_snake_case};
use crate::service::rpc::{Context, Dialect, RpcResponse};

/// The most requests of a batch.
const MAX_BATCH: usize = 100;
/// The most objects and arrays of a request, and the most values in all. A tree of values needs up to sixty times the memory of
/// its text.
const MAX_CONTAINERS: usize = 10_000;
const MAX_VALUES: usize = 500_000;

/// Carries out the requests of a body.
pub fn respond(body: &[u8], context: &Context<'_>, memory: &ResponseMemory) -> RpcResponse {
    let mut to = JsonWriter::within(memory);
    match parse(body) {
        Err(error) => write_error(&mut to, &error, &Value::Null, &[]),
        Ok(Value::Array(requests)) if requests.is_empty() || requests.len() > MAX_BATCH => {
            let detail = format!("a batch has 1 to {MAX_BATCH} requests");
            write_error(&mut to, &RpcError::new(ErrorCode::InvalidRequest, detail), &Value::Null, &[]);
        }
        Ok(Value::Array(requests)) => {
            to.begin_array();
            let empty = to.len();
            let mut is_full = false;
            for request in requests {
                is_full |= respond_to_one(request, context, &mut to, RequestPlace::InBatch { is_full });
            }
            if to.len() == empty {
                return RpcResponse::NoContent;
            }
            to.end_array();
        }
        Ok(request) => _ = respond_to_one(request, context, &mut to, RequestPlace::Alone),
    }
    match to.into_bytes() {
        bytes if bytes.is_empty() => RpcResponse::NoContent,
        bytes => RpcResponse::Json(bytes),
    }
}

/// Parses a body of bounded size and depth.
fn parse(body: &[u8]) -> Result<Value, RpcError> {
    if is_too_complex(body) {
        return Err(RpcError::new(ErrorCode::InvalidRequest, "too many values"));
    }
    serde_json::from_slice(body).map_err(|error| RpcError::new(ErrorCode::Parse, error.to_string()))
}

/// Whether a body has so many values that a tree of them would need much memory. Counts outside of strings, so that file names and
/// base64 may contain anything.
fn is_too_complex(body: &[u8]) -> bool {
    let (mut containers, mut values, mut bytes) = (0, 0, body.iter());
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => {
                while let Some(byte) = bytes.next() {
                    match byte {
                        b'"' => break,
                        b'\\' => drop(bytes.next()),
                        _ => {}
                    }
                }
            }
            b'{' | b'[' => containers += 1,
            b',' => values += 1,
            _ => {}
        }
    }
    containers > MAX_CONTAINERS || values > MAX_VALUES
}

/// Where a request is in the body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum RequestPlace {
    /// It is the whole body.
    Alone,
    /// It is in a batch. `is_full`: there was no memory for an earlier response.
    InBatch { is_full: bool },
}

/// Responds to a request. Returns whether there was no memory for the response.
fn respond_to_one(request: Value, context: &Context<'_>, to: &mut JsonWriter, place: RequestPlace) -> bool {
    let is_in_batch = place != RequestPlace::Alone;
    let invalid = |to: &mut JsonWriter, detail: &str| {
        write_error(to, &RpcError::new(ErrorCode::InvalidRequest, detail), &Value::Null, &[]);
    };
    let Value::Object(mut request) = request else {
        invalid(to, if is_in_batch { "request must be an Object" } else { "request must be an Array or Object" });
        return false;
    };
    match request.remove("jsonrpc") {
        Some(Value::String(version)) if version == "2.0" => {
            return respond_to_json_rpc(request, context, to, place == RequestPlace::InBatch { is_full: true });
        }
        None if !is_in_batch => respond_to_legacy(request, context, to),
        _ => invalid(to, "JSON-RPC version is not 2.0"),
    }
    false
}

/// There is no memory for a response.
fn too_large() -> RpcError {
    RpcError::new(
        ErrorCode::Internal,
        "the response is too large: ask for fewer torrents or fields, or try again later",
    )
}

fn respond_to_json_rpc(
    mut request: Map<String, Value>,
    context: &Context<'_>,
    to: &mut JsonWriter,
    is_full: bool,
) -> bool {
    to.set_dialect(Dialect::JsonRpc);
    let id = request.remove("id");
    if matches!(id, Some(Value::Bool(_) | Value::Array(_) | Value::Object(_))) {
        let error = RpcError::new(ErrorCode::InvalidRequest, "id type must be String, Number, or Null");
        write_error(to, &error, &Value::Null, &[]);
        return false;
    }
    let start = to.len();
    to.keep();
    if id.is_some() {
        to.begin_object();
        to.name("jsonrpc");
        to.string("2.0");
        to.name("result");
        to.begin_object();
    }
    let members = to.len();
    let result = if is_full {
        Err(too_large())
    } else {
        let name = request.get("method").and_then(Value::as_str).unwrap_or_default().to_owned();
        call(&name, request.remove("params"), context, to, id.is_none())
    };
    match (&id, result) {
        (None, _) => drop(to.take_from(start)),
        (Some(id), Ok(())) => {
            to.end_object();
            to.name("id");
            to.value(id);
            to.end_object();
        }
        (Some(id), Err(error)) => {
            let members = to.take_from(members);
            to.take_from(start);
            write_error(to, &error, id, &members);
        }
    }
    let is_full = to.is_full();
    if let Some(id) = id.filter(|_| is_full) {
        to.take_from(start);
        write_error(to, &too_large(), &id, &[]);
    }
    is_full
}

/// The response of JSON-RPC to a request that failed; `members` is what the method wrote nevertheless.
fn write_error(to: &mut JsonWriter, error: &RpcError, id: &Value, members: &[u8]) {
    to.exempt(|to| write_error_object(to, error, id, members));
}

fn write_error_object(to: &mut JsonWriter, error: &RpcError, id: &Value, members: &[u8]) {
    to.object(|to| {
        to.name("jsonrpc");
        to.string("2.0");
        to.name("error");
        to.object(|to| {
            to.name("code");
            to.int(error.code as i64);
            to.name("message");
            to.string(error.code.message());
            if error.detail.is_empty() && members.is_empty() {
                return;
            }
            to.name("data");
            to.object(|to| {
                if !error.detail.is_empty() {
                    to.name("error_string");
                    to.string(&error.detail);
                }
                if !members.is_empty() {
                    to.name("result");
                    to.object(|to| to.raw(members));
                }
            });
        });
        to.name("id");
        to.value(id);
    });
}

fn respond_to_legacy(mut request: Map<String, Value>, context: &Context<'_>, to: &mut JsonWriter) {
    to.set_dialect(Dialect::Legacy);
    to.begin_object();
    to.name("arguments");
    to.begin_object();
    let name = to_snake_case(request.get("method").and_then(Value::as_str).unwrap_or_default());
    // Programs that mix the dialects exist, and without their parameters a request would mean all torrents.
    let arguments = request.remove("arguments").or_else(|| request.remove("params"));
    let result = if name.is_empty() {
        Err(RpcError::new(ErrorCode::MethodNotFound, "no method name"))
    } else {
        call(&name, arguments, context, to, false)
    };
    let tag = request.remove("tag").filter(|tag| !tag.is_array() && !tag.is_object());
    end_legacy(to, result.as_ref().map_or_else(RpcError::result, |()| "success"), tag.as_ref());
    if to.is_full() {
        to.take_from(0);
        to.exempt(|to| {
            to.begin_object();
            to.name("arguments");
            to.begin_object();
            end_legacy(to, too_large().result(), tag.as_ref());
        });
    }
}

/// Ends the arguments of a response in the legacy dialect, and the response.
fn end_legacy(to: &mut JsonWriter, result: &str, tag: Option<&Value>) {
    to.end_object();
    to.name("result");
    to.string(result);
    if let Some(tag) = tag {
        to.name("tag");
        to.value(tag);
    }
    to.end_object();
}

/// Calls a method, which writes the members of its result. A notification of a method that only reads is not carried out.
fn call(
    name: &str,
    params: Option<Value>,
    context: &Context<'_>,
    to: &mut JsonWriter,
    is_notification: bool,
) -> Result<(), RpcError> {
    let method = methods::find(name, to.dialect()).ok_or(ErrorCode::MethodNotFound)?;
    if is_notification && method.reads_only {
        return Ok(());
    }
    let params = Params::new(params, to.dialect())?;
    (method.run)(&MethodCall { context, params: &params, dialect: to.dialect(), reads_only: method.reads_only }, to)
}
