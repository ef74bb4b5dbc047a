//! Errors of requests, with the numbers of JSON-RPC and the words of Transmission.

use crate::service::model::ControlError;

/// The kinds of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "the list is Transmission's")]
pub enum ErrorCode {
    /// The request is not JSON.
    Parse = -32700,
    /// The request is not one of JSON-RPC.
    InvalidRequest = -32600,
    /// No method has this name.
    MethodNotFound = -32601,
    /// A parameter is missing or not valid.
    InvalidParams = -32602,
    /// Something went wrong in btsync itself.
    Internal = -32603,
    /// The list of trackers did not change.
    SetAnnounceList = 1,
    /// The text is no list of trackers.
    InvalidTrackerList = 2,
    /// A path does not begin with `/`.
    PathNotAbsolute = 3,
    /// A new torrent's source is neither metainfo nor a link.
    UnrecognizedInfo = 4,
    /// The system refused.
    System = 5,
    /// A torrent has no file with this index.
    FileIndexOutOfRange = 6,
    /// A torrent has no piece with this index.
    PieceIndexOutOfRange = 7,
    /// A service elsewhere did not help.
    Http = 8,
    /// The metainfo is damaged.
    CorruptTorrent = 9,
}

impl ErrorCode {
    /// Transmission's words.
    pub fn message(self) -> &'static str {
        match self {
            ErrorCode::Parse => "Parse error",
            ErrorCode::InvalidRequest => "Invalid Request",
            ErrorCode::MethodNotFound => "Method not found",
            ErrorCode::InvalidParams => "Invalid params",
            ErrorCode::Internal => "Internal error",
            ErrorCode::SetAnnounceList => "error setting announce list",
            ErrorCode::InvalidTrackerList => "Invalid tracker list",
            ErrorCode::PathNotAbsolute => "path is not absolute",
            ErrorCode::UnrecognizedInfo => "unrecognized info",
            ErrorCode::System => "system error",
            ErrorCode::FileIndexOutOfRange => "file index out of range",
            ErrorCode::PieceIndexOutOfRange => "piece index out of range",
            ErrorCode::Http => "HTTP error from backend service",
            ErrorCode::CorruptTorrent => "invalid or corrupt torrent file",
        }
    }
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RpcError {
    /// The kind.
    pub code: ErrorCode,
    /// More about it, or an empty text.
    pub detail: String,
}

impl RpcError {
    /// An error of this kind.
    pub fn new(code: ErrorCode, detail: impl Into<String>) -> RpcError {
        RpcError { code, detail: detail.into() }
    }

    /// A parameter that is missing or not valid.
    pub fn invalid(detail: impl Into<String>) -> RpcError {
        RpcError::new(ErrorCode::InvalidParams, detail)
    }

    /// The `result` of the legacy dialect. Clients compare some of these texts, so that details come only where Transmission has
    /// them too.
    pub fn result(&self) -> &str {
        match self.code {
            ErrorCode::MethodNotFound if self.detail.is_empty() => "method name not recognized",
            ErrorCode::CorruptTorrent | ErrorCode::UnrecognizedInfo => self.code.message(),
            _ if self.detail.is_empty() => self.code.message(),
            _ => &self.detail,
        }
    }
}

impl From<ErrorCode> for RpcError {
    fn from(code: ErrorCode) -> RpcError {
        RpcError::new(code, "")
    }
}

impl From<ControlError> for RpcError {
    fn from(error: ControlError) -> RpcError {
        let code = match &error {
            ControlError::NoTorrent(_) | ControlError::Invalid(_) | ControlError::OutsideFolders(_) => {
                ErrorCode::InvalidParams
            }
            ControlError::BadTorrent(_) => ErrorCode::CorruptTorrent,
            ControlError::NotFetched(_) => ErrorCode::Http,
            ControlError::System(_) | ControlError::TooManyReaders | ControlError::Unsupported(_) => ErrorCode::System,
        };
        RpcError::new(code, error.to_string())
    }
}
