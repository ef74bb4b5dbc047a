//! What a service offers over HTTP: the page, Transmission's remote control, the event stream, files and metrics.

mod access;
mod assets;
mod attempts;
mod files;
mod metrics;
mod password_queue;
mod passwords;

use std::sync::Arc;

use crate::http_server::{Handler, Request, RequestHead, Response};
use crate::service::model::Control;
use crate::service::page_events::PageEvents;
use crate::service::rpc::memory::ResponseMemory;
use crate::service::rpc::session_id::{HEADER, SessionId, VERSION_HEADER};
use crate::service::rpc::{RPC_VERSION_SEMVER, RpcResponse, respond};
pub use access::{AccessError, AccessPolicy};
pub use passwords::PasswordHash;

/// The largest body of a request to the remote control: a torrent file of 10 MiB in base64, and more.
const MAX_RPC_BODY: usize = 16 << 20;
/// The largest body of a request whose password has not been checked yet. The first request of a script may be the one that adds
/// a torrent file, and all bodies together are bounded by [`ServerLimits`](crate::http_server::ServerLimits).
const MAX_UNVERIFIED_BODY: usize = 4 << 20;
const RPC_PATH: &str = "/transmission/rpc";

/// What the page may load: only its own files.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
    connect-src 'self'; manifest-src 'self'; form-action 'none'; base-uri 'none'; frame-ancestors 'none'";

/// See the module's documentation.
pub struct WebHandler {
    control: Arc<dyn Control>,
    access: AccessPolicy,
    events: Arc<PageEvents>,
    session_id: SessionId,
    responses: ResponseMemory,
    /// The path before all others, such as `/btsync`; empty for none.
    prefix: String,
    has_metrics: bool,
}

impl WebHandler {
    /// Offers a service. `prefix` is the path below which a reverse proxy offers it.
    pub fn new(
        control: Arc<dyn Control>,
        access: AccessPolicy,
        events: Arc<PageEvents>,
        prefix: &str,
        has_metrics: bool,
    ) -> WebHandler {
        let responses = ResponseMemory::default();
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("/{prefix}") };
        WebHandler { control, access, events, session_id: SessionId::generate(), responses, prefix, has_metrics }
    }

    /// The path below the prefix; `None` if the request's is not below it.
    fn path<'a>(&self, head: &'a RequestHead) -> Option<&'a str> {
        head.path().strip_prefix(self.prefix.as_str()).filter(|path| path.is_empty() || path.starts_with('/'))
    }

    /// Whether a request has the token of a link to a file, which is enough for a player that knows no password.
    fn has_valid_link(&self, head: &RequestHead) -> bool {
        let named = self.path(head).filter(|_| head.is_get_or_head()).and_then(|path| files::file_of(head, path));
        named.is_some_and(|(file, token)| self.control.is_file_link_valid(file, &token))
    }

    fn route(&self, request: &Request) -> Response {
        let head = &request.head;
        let Some(path) = self.path(head) else { return Response::text(404, "not found\n") };
        match path {
            "" => Response::redirect(308, format!("{}/", self.prefix)),
            path if is_rpc(path) => self.rpc(request),
            _ if !head.is_get_or_head() => Response::text(405, "only GET\n").header("Allow", "GET, HEAD"),
            "/events" => self.events.stream(&*self.control),
            "/metrics" if self.has_metrics => metrics::response(&*self.control),
            "/transmission" | "/transmission/" | "/transmission/web" | "/transmission/web/" => {
                Response::redirect(302, format!("{}/", self.prefix))
            }
            path if path.starts_with("/files/") => files::response(head, path, &self.control),
            path => assets::response(head, path),
        }
    }

    /// Whether a request has the session's ID, which websites cannot know.
    fn knows_session(&self, head: &RequestHead) -> bool {
        self.session_id.is(head.header(HEADER).map(str::as_bytes))
    }

    /// The response to a request without the session's ID.
    fn session_response(&self) -> Response {
        let text = format!("{HEADER}: {}\n", self.session_id.as_str());
        Response::text(409, text)
            .header(HEADER, self.session_id.as_str().to_owned())
            .header(VERSION_HEADER, RPC_VERSION_SEMVER)
    }

    fn rpc(&self, request: &Request) -> Response {
        let head = &request.head;
        if !self.knows_session(head) {
            return self.session_response();
        }
        if head.method() != "POST" {
            return Response::text(405, "only POST\n").header("Allow", "POST");
        }
        match respond(&request.body, &*self.control, self.session_id.as_str(), &self.responses) {
            RpcResponse::Json(json) => Response::with_body(200, "application/json; charset=UTF-8", json),
            RpcResponse::NoContent => Response::new(204),
        }
        .header(HEADER, self.session_id.as_str().to_owned())
        .header("Cache-Control", "no-store")
    }
}

impl Handler for WebHandler {
    fn body_limit(&self, head: &RequestHead) -> Result<usize, Response> {
        if self.has_valid_link(head) {
            return self.access.check_source(head).map(|()| 0).map_err(with_security);
        }
        let is_verified = self.access.check_head(head).map_err(with_security)?;
        let is_rpc = self.path(head).is_some_and(|path| path.starts_with(RPC_PATH)) && head.method() == "POST";
        Ok(match (is_rpc, is_verified) {
            (true, true) => MAX_RPC_BODY,
            (true, false) => MAX_UNVERIFIED_BODY,
            _ => 0,
        })
    }

    /// A client that needs the session's ID must not wait behind the requests of others: each of them asks for it first.
    fn handle_inline(&self, request: &Request) -> Option<Response> {
        let head = &request.head;
        let needs_session = self.path(head).is_some_and(is_rpc) && !self.knows_session(head);
        // Otherwise its password has to be hashed, which takes a while.
        let may_answer = needs_session && matches!(self.access.check_head(head), Ok(true));
        may_answer.then(|| with_security(self.session_response()))
    }

    fn handle(&self, request: Request) -> Response {
        let head = &request.head;
        let checked = if self.has_valid_link(head) { self.access.check_source(head) } else { self.access.check(head) };
        match checked {
            Ok(()) => with_security(self.route(&request)),
            Err(refused) => with_security(refused),
        }
    }
}

/// Whether this is the path of the remote control.
fn is_rpc(path: &str) -> bool {
    path.strip_suffix('/').unwrap_or(path) == RPC_PATH
}

/// Adds the headers that keep other websites and the content of torrents away from the page.
fn with_security(response: Response) -> Response {
    let response = if response.has_header("Content-Security-Policy") {
        response
    } else {
        response.header("Content-Security-Policy", CONTENT_SECURITY_POLICY)
    };
    response
        .header("X-Content-Type-Options", "nosniff")
        .header("X-Frame-Options", "DENY")
        .header("Referrer-Policy", "no-referrer")
        .header("Cross-Origin-Opener-Policy", "same-origin")
        .header("Cross-Origin-Resource-Policy", "same-origin")
}
