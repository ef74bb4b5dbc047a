//! The block list of a service: that of its option, or a URL of its settings. It outlives the clients that the service starts one
//! after the other, so that other settings can change without loading it again.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::client::ClientError;
use crate::client::block_list::{BlockListLoader, BlockListSource, BlockListWatch, block_list_reason};
use crate::net::address_filter::AddressFilter;
use crate::net::route::Route;
use crate::service::model::BlockListView;
use crate::service::settings::BlockListSettings;

/// See the module's documentation.
pub struct ServiceBlockList {
    filter: Arc<AddressFilter>,
    /// The file that keeps the last list of a URL.
    copy: PathBuf,
    /// How it is fetched.
    route: Route,
    /// The list of the option, which settings do not replace.
    option: Option<BlockListSource>,
    current: Mutex<CurrentBlockList>,
}

#[derive(Default)]
struct CurrentBlockList {
    settings: BlockListSettings,
    watch: Option<BlockListWatch>,
}

impl ServiceBlockList {
    /// Loads the list of the option, or begins to load that of the settings. Until that has come, the list of the last time is in force.
    ///
    /// # Errors
    /// If the list of the option cannot be loaded.
    pub fn start(
        option: Option<&str>,
        settings: &BlockListSettings,
        copy: PathBuf,
        route: &Route,
    ) -> Result<ServiceBlockList, ClientError> {
        let option = option.map(BlockListSource::new);
        let list =
            ServiceBlockList { filter: Arc::default(), copy, route: route.clone(), option, current: Mutex::default() };
        if let Some(source) = &list.option {
            let watch = BlockListWatch::start(list.loader(source.clone()))?;
            list.current.lock().watch = Some(watch);
        } else if let Some(source) = chosen(settings)
            && !list.loader(source).use_copy()
        {
            log::warn!("no address is blocked until the block list has been loaded");
        }
        list.apply(settings);
        Ok(list)
    }

    /// The filter, for clients.
    pub fn filter(&self) -> Arc<AddressFilter> {
        self.filter.clone()
    }

    /// Follows changed settings; a list from the option stays.
    pub fn apply(&self, settings: &BlockListSettings) {
        let mut current = self.current.lock();
        let was = std::mem::replace(&mut current.settings, settings.clone());
        if self.option.is_some() || chosen(&was) == chosen(settings) {
            return;
        }
        let old = current.watch.take();
        drop(current);
        drop(old); // may wait for its thread
        let Some(source) = chosen(settings) else { return self.filter.clear() };
        match BlockListWatch::start_later(self.loader(source)) {
            Ok(watch) => self.current.lock().watch = Some(watch),
            Err(error) => log::warn!("{error}"),
        }
    }

    /// Loads the list now. Returns the number of ranges.
    ///
    /// # Errors
    /// The reason in words, if there is no list or it cannot be loaded.
    pub fn update(&self) -> Result<usize, String> {
        let loader = self.current.lock().watch.as_ref().map(BlockListWatch::loader);
        let loader = loader.ok_or("no blocklist is set or it is not enabled")?;
        loader.load().map_err(|error| block_list_reason(&error))?;
        Ok(self.view().ranges)
    }

    /// The state for display.
    pub fn view(&self) -> BlockListView {
        let settings = self.current.lock().settings.clone();
        let (is_enabled, url) = match &self.option {
            Some(source @ BlockListSource::Url(_)) => (true, source.public_name()),
            Some(BlockListSource::File(_)) => (true, String::new()),
            None => (settings.is_enabled, settings.url),
        };
        let stats = self.filter.stats();
        let (ranges, hits) = stats.map_or((0, 0), |stats| (stats.ranges, stats.hits));
        BlockListView { is_enabled, url, ranges, hits }
    }

    fn loader(&self, source: BlockListSource) -> BlockListLoader {
        BlockListLoader {
            source,
            copy: Some(self.copy.clone()),
            route: self.route.clone(),
            filter: self.filter.clone(),
            is_outdated: Arc::default(),
        }
    }
}

/// The list that the settings put in force. A remote control may name URLs only: the messages about a file tell what is in it.
fn chosen(settings: &BlockListSettings) -> Option<BlockListSource> {
    let source = BlockListSource::new(&settings.url);
    (settings.is_enabled && matches!(source, BlockListSource::Url(_))).then_some(source)
}

#[cfg(test)]
mod tests;
