//! One request, as a method sees it.

use crate::service::model::{Control, ControlError, TorrentId};
use crate::service::rpc::error::RpcError;
use crate::service::rpc::params::Params;
use crate::service::rpc::selection::TorrentSelection;
use crate::service::rpc::{Context, Dialect};

/// One request of a method.
pub struct MethodCall<'a> {
    /// What all requests share.
    pub context: &'a Context<'a>,
    /// Its parameters.
    pub params: &'a Params,
    /// The dialect of the request.
    pub dialect: Dialect,
    /// Whether the method changes nothing.
    pub reads_only: bool,
}

impl MethodCall<'_> {
    /// The service.
    pub fn control(&self) -> &dyn Control {
        self.context.control
    }

    /// The torrents that `ids` names.
    pub fn selection(&self) -> TorrentSelection {
        TorrentSelection::of(self.params, self.control(), self.dialect, self.reads_only)
    }

    /// The numbers of those that exist.
    pub fn ids(&self) -> Vec<TorrentId> {
        self.selection().ids(self.control())
    }

    /// Acts on those that exist, if there are any.
    pub fn act(
        &self,
        act: impl FnOnce(&dyn Control, &[TorrentId]) -> Result<(), ControlError>,
    ) -> Result<(), RpcError> {
        match self.ids() {
            ids if ids.is_empty() => Ok(()),
            ids => Ok(act(self.control(), &ids)?),
        }
    }
}
