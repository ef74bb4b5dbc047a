//! How a client is set up.

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;

use crate::client::block_list::BlockListSource;
use crate::client::config::{ClientConfig, DhtSettings};
use crate::client::{Client, ClientError, PortMapping};
use crate::discovery::tracker::http::UrlFetcher;
#[cfg(feature = "service")]
use crate::net::address_filter::AddressFilter;
use crate::net::bind::Bind;
use crate::net::proxy::url::ProxyUrlError;
use crate::net::route::Route;
use crate::strategy::rate_limiter::Limits;
use crate::types::Transports;

/// Sets up a [`Client`]; made by [`Client::builder`].
#[derive(Clone, Debug)]
#[must_use]
pub struct ClientBuilder {
    config: ClientConfig,
    is_shared: bool,
}

impl Client {
    /// Begins to set up a client: ports 6881 to 6889 on all interfaces, the DHT and local discovery on, at most 300
    /// connections, no rate limits.
    pub fn builder() -> ClientBuilder {
        ClientBuilder { config: ClientConfig::default(), is_shared: true }
    }
}

impl ClientBuilder {
    /// The TCP ports to listen on; the client takes the first free one. `0..=0` lets the system choose.
    pub fn listen_ports(mut self, ports: RangeInclusive<u16>) -> ClientBuilder {
        self.config.listen_ports = ports;
        self
    }

    /// The interface or address that all sockets are bound to.
    pub fn bind(mut self, bind: Bind) -> ClientBuilder {
        self.config.route = std::mem::take(&mut self.config.route).bound_to(bind);
        self
    }

    /// A proxy for everything that the client exchanges with others: `socks5://`, `socks5h://`, `socks4a://` or `http://`, with user name
    /// and password if it needs them. Nothing goes around it, also while it does not work: the client listens on no port, looks up
    /// no names (the proxy does), and uses neither local discovery nor, for now, the DHT; it uses UDP trackers only with SOCKS 5.
    /// Without it, only requests to HTTP and HTTPS servers use the proxies that the environment names (`http_proxy` and others).
    ///
    /// ```
    /// use btsync::Client;
    /// let client = Client::builder().proxy(Some("socks5://user:password@127.0.0.1:1080"))?.build()?;
    /// assert_eq!(client.port(), None); // nobody could connect to it through the proxy
    /// assert!(Client::builder().proxy(Some("ftp://127.0.0.1:21")).is_err());
    /// # Ok::<(), btsync::ClientError>(())
    /// ```
    ///
    /// # Errors
    /// [`ClientError::Proxy`] if it is not the URL of such a proxy.
    pub fn proxy(mut self, url: Option<&str>) -> Result<ClientBuilder, ClientError> {
        let url = url.map(str::parse).transpose();
        let url = url.map_err(|error: ProxyUrlError| ClientError::Proxy { reason: error.to_string() })?;
        self.config.route = std::mem::take(&mut self.config.route).through(url);
        Ok(self)
    }

    /// Whether the client hides what identifies it. Its torrents then have random peer ids without the name of a client, new in each
    /// run, and it sends no `User-Agent`. It sends peers neither its name and version nor its port, and trackers no addresses. Local
    /// discovery and port mapping are off, and the DHT saves nothing. `AddOptions::peer_id_prefix` and `AddOptions::user_agent` do
    /// not count. The IP address stays visible to others unless there is a [proxy](ClientBuilder::proxy).
    ///
    /// ```
    /// let client = btsync::Client::builder().anonymous(true).build()?;
    /// # Ok::<(), btsync::ClientError>(())
    /// ```
    pub fn anonymous(mut self, is_anonymous: bool) -> ClientBuilder {
        self.config.route = std::mem::take(&mut self.config.route).anonymous(is_anonymous);
        self
    }

    /// How connections of the client leave the machine.
    pub(crate) fn route(&self) -> &Route {
        &self.config.route
    }

    /// What was set so far.
    #[cfg_attr(not(feature = "service"), allow(dead_code, reason = "only the service reads it"))]
    pub(crate) fn config(&self) -> &ClientConfig {
        &self.config
    }

    /// A fetcher of files by URL whose requests leave the machine as those of this client do.
    pub fn url_fetcher(&self, user_agent: Option<&str>) -> UrlFetcher {
        UrlFetcher::on_route(&self.config.route, user_agent)
    }

    /// What carries connections to peers, both ways: TCP, uTP (BEP 29), which gives way to other traffic, or both, which is the default.
    /// With both, an outgoing connection uses whichever connects first, and begins with the one that worked before, or with TCP.
    /// Behind a [proxy](ClientBuilder::proxy), only TCP is used.
    ///
    /// ```
    /// use btsync::{Client, Transports};
    /// let client = Client::builder().transports(Transports::Utp).build()?;
    /// # Ok::<(), btsync::ClientError>(())
    /// ```
    pub fn transports(mut self, transports: Transports) -> ClientBuilder {
        self.config.transports = transports;
        self
    }

    /// How the DHT is bootstrapped; `None` turns it off.
    pub fn dht(mut self, dht: Option<DhtSettings>) -> ClientBuilder {
        self.config.dht = dht;
        self
    }

    /// Whether peers in the local network are searched for (BEP 14).
    pub fn lsd(mut self, is_on: bool) -> ClientBuilder {
        self.config.uses_lsd = is_on;
        self
    }

    /// The most connections of all torrents together.
    pub fn max_peers(mut self, max_peers: usize) -> ClientBuilder {
        self.config.max_peers = max_peers;
        self
    }

    /// Rate limits over all peers of all torrents.
    pub fn limits(mut self, limits: Limits) -> ClientBuilder {
        self.config.limits = limits;
        self
    }

    /// A block list: a file, or an HTTP or HTTPS URL, in P2P, DAT or CIDR form, plain or packed with gzip or zip. The client neither
    /// connects to the addresses in it nor accepts connections from them, and exchanges no DHT packets with them. It notices when
    /// the file changes, and fetches a URL once a day.
    pub fn block_list(mut self, place: Option<&str>) -> ClientBuilder {
        self.config.block_list = place.map(BlockListSource::new);
        self
    }

    /// A file of the program's own in which the client keeps the last block list of a URL. If the URL cannot be fetched at the next
    /// start, the client uses that list and tries again within the hour.
    pub fn block_list_copy(mut self, file: Option<PathBuf>) -> ClientBuilder {
        self.config.block_list_copy = file;
        self
    }

    /// The filter of addresses that the client uses. Its owner loads the block list.
    #[cfg(feature = "service")]
    pub(crate) fn address_filter(mut self, filter: Arc<AddressFilter>) -> ClientBuilder {
        self.config.address_filter = Some(filter);
        self
    }

    /// Whether the client asks the router to forward its port. [`PortMapping::Off`] unless set.
    pub fn port_mapping(mut self, port_mapping: PortMapping) -> ClientBuilder {
        self.config.port_mapping = port_mapping;
        self
    }

    /// The client is for a single torrent: it listens only once that torrent needs peers, and frees the port when the torrent
    /// ends. Otherwise the port and the DHT outlive each torrent.
    pub fn single_torrent(mut self) -> ClientBuilder {
        self.is_shared = false;
        self
    }

    /// Creates the client, which listens from now on. The DHT and local discovery start with the first torrent that uses
    /// them. All of it ends when the last torrent has ended and the last `Arc` is dropped.
    ///
    /// # Errors
    /// [`ClientError::Listen`] if no port is free, [`ClientError::Interface`] if the interface does not exist,
    /// [`ClientError::BlockList`] if the block list cannot be loaded. A client for a single torrent fails when that starts.
    pub fn build(&self) -> Result<Arc<Client>, ClientError> {
        if self.is_shared { Client::start(&self.config) } else { Ok(Client::for_one_torrent(&self.config)) }
    }
}
