//! In the place of TLS in a build without the feature `tls`: requests to https URLs fail.

use ureq::Error;
use ureq::unversioned::transport::{ConnectionDetails, Connector, Transport};

/// Passes connections through, and refuses those that need TLS.
#[derive(Debug)]
pub(crate) struct Tls;

impl<In: Transport> Connector<In> for Tls {
    type Out = In;

    fn connect(&self, details: &ConnectionDetails, chained: Option<In>) -> Result<Option<In>, Error> {
        match chained {
            Some(transport) if details.needs_tls() && !transport.is_tls() => {
                Err(Error::Tls("this program was built without support for https"))
            }
            chained => Ok(chained),
        }
    }
}

/// No connection to a proxy.
pub(crate) fn over_tls(_: &ConnectionDetails, _: &str, _: Box<dyn Transport>) -> Result<Box<dyn Transport>, Error> {
    Err(Error::Tls("this program was built without support for https"))
}

/// None are trusted without TLS.
pub(crate) fn trusted_certificates() -> (usize, usize) {
    (0, 0)
}
