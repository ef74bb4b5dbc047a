//! How a program gives a torrent to a client.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use crate::client::Client;
use crate::storage::has_download_mark;
use crate::torrent::downloaded_torrents::is_from_download;
use crate::torrent::{AddOptions, Source, Torrent, TorrentHandle};
use crate::util::paths::resolved;

impl Client {
    /// Starts a torrent on a thread of its own, and returns its handle. The torrent runs until it ends by itself or
    /// [`TorrentHandle::stop`] ends it; [`TorrentHandle::wait`] returns how. A magnet link's own peers and file selection count,
    /// as [`AddOptions::link`] says.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let [seed, copy] = ["seed", "copy"].map(|name| folder.path().join(name));
    /// # std::fs::create_dir(&seed)?;
    /// # std::fs::write(seed.join("hello"), "hello, world")?;
    /// # let plan = btsync::create::CreatePlan::scan(&seed.join("hello"), &[])?;
    /// # let created = plan.create(&Default::default(), &Default::default(), &Default::default())?;
    /// use btsync::{AddOptions, Bind, Client, Metainfo, Outcome, SeedGoal};
    ///
    /// // Two clients on loopback: one seeds, the other downloads from it.
    /// let metainfo = Metainfo::from_bytes(&created.bytes)?;
    /// let [seeder, leecher] = [1, 2].map(|host| {
    ///     let client = Client::builder().listen_ports(0..=0).bind(Bind::Address([127, 0, 0, host].into()));
    ///     client.dht(None).lsd(false).build()
    /// });
    /// let (seeder, leecher) = (seeder?, leecher?);
    /// let seeding = seeder.add(metainfo.clone(), AddOptions::new(&seed).seed(SeedGoal::forever()))?;
    /// let download = leecher.add(metainfo, AddOptions::new(&copy))?;
    /// let port = seeder.port().expect("it listens");
    /// download.add_peer(([127, 0, 0, 1], port).into());
    /// assert_eq!(download.wait()?, Outcome::Completed);
    /// assert_eq!(std::fs::read(copy.join("hello"))?, b"hello, world");
    /// seeding.stop();
    /// seeding.wait()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// If the system has no thread for it. Everything else that may go wrong is an error of [`TorrentHandle::wait`].
    pub fn add(self: &Arc<Self>, source: impl Into<Source>, options: AddOptions) -> io::Result<TorrentHandle> {
        let source = source.into();
        let options = if let Source::Magnet(magnet) = &source { options.link(magnet, false) } else { options };
        let torrent = self.prepare(source, options);
        let handle = torrent.handle();
        handle.0.keep_events(torrent.events());
        thread::Builder::new().name("torrent".to_owned()).spawn(move || drop(torrent.run()))?;
        Ok(handle)
    }

    /// A torrent that has not started, for a program that runs it on a thread of its own: see [`Torrent::run`].
    pub fn prepare(self: &Arc<Self>, source: impl Into<Source>, options: AddOptions) -> Torrent {
        let AddOptions { config, claim_position } = options;
        let torrent = Torrent::with_client(self, source, config);
        match claim_position {
            Some(position) => torrent.with_claim_position(position),
            None => torrent,
        }
    }

    /// Whether a download of btsync created the file: one that the file system marks, or that `downloaded_torrents_folder`
    /// names, the folder of [`AddOptions::downloaded_torrents_folder`]. A program that starts every torrent in a folder leaves
    /// such files alone, or the author of one torrent could start others.
    pub fn is_downloaded_file(path: &Path, file: &File, downloaded_torrents_folder: Option<&Path>) -> bool {
        has_download_mark(file)
            || downloaded_torrents_folder.is_some_and(|folder| is_from_download(folder, &resolved(path), file))
    }
}
