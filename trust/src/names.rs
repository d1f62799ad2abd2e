//! Where hosts are, by their names.
//!
//! The system's own lookup blocks a thread, and where a name server does not answer it does so for many seconds: programs that ask for
//! the same host a few times a second would soon have no thread left. So each name is looked up once at a time, and where it led last
//! is good enough while nothing newer is known: the host may be the very one that took the name server along.

use hyper_util::client::legacy::connect::dns::Name;
use std::collections::HashMap;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::timeout;
use tower::Service;

/// What was found is not looked up again for so long.
const FRESH: Duration = Duration::from_secs(5);
/// After that it is waited for so long for something newer.
const PATIENCE: Duration = Duration::from_millis(50);

/// Names that were looked up; a clone shares them.
#[derive(Debug, Clone, Default)]
pub struct Names(Arc<Mutex<HashMap<String, Known>>>);

/// What is known of a name.
#[derive(Debug, Default)]
struct Known {
    /// Where it led last, and since when that is known.
    last: Option<(Vec<IpAddr>, Instant)>,
    /// The lookup that is under way.
    lookup: Option<watch::Receiver<Option<Found>>>,
}

/// What a lookup ended with.
type Found = Result<Vec<IpAddr>, Arc<io::Error>>;

impl Names {
    /// Addresses of a host, in the system's order; never none. A lookup that is given up goes on, for the next who asks.
    pub async fn addresses(&self, host: &str) -> io::Result<Vec<IpAddr>> {
        if let Ok(address) = host.parse() {
            return Ok(vec![address]);
        }
        let (last, mut lookup) = {
            let mut names = self.names();
            let known = names.entry(host.to_owned()).or_default();
            if let Some((found, _)) = known.last.as_ref().filter(|(_, at)| at.elapsed() < FRESH) {
                return Ok(found.clone());
            }
            let lookup = known.lookup.get_or_insert_with(|| self.look_up(host)).clone();
            (known.last.as_ref().map(|(found, _)| found.clone()), lookup)
        };
        let found = async {
            let found = lookup.wait_for(Option::is_some).await.map(|found| found.clone());
            // Its task ends with an answer, or with the program.
            found.ok().flatten().unwrap_or_else(|| Err(Arc::new(io::ErrorKind::Interrupted.into())))
        };
        match last {
            None => found.await.map_err(|error| io::Error::new(error.kind(), error)),
            Some(last) => match timeout(PATIENCE, found).await {
                Ok(Ok(found)) => Ok(found),
                Ok(Err(_)) | Err(_) => Ok(last),
            },
        }
    }

    fn look_up(&self, host: &str) -> watch::Receiver<Option<Found>> {
        let (say, said) = watch::channel(None);
        let (names, host) = (self.clone(), host.to_owned());
        tokio::spawn(async move {
            let found = match tokio::net::lookup_host((host.as_str(), 0)).await {
                Ok(found) => Ok(found.map(|address| address.ip()).collect::<Vec<_>>()),
                Err(error) => Err(Arc::new(error)),
            };
            let found = found.and_then(|found| match found.is_empty() {
                true => Err(Arc::new(io::Error::new(io::ErrorKind::NotFound, format!("{host} has no address")))),
                false => Ok(found),
            });
            {
                let mut names = names.names();
                let known = names.entry(host).or_default();
                known.lookup = None;
                if let Ok(found) = &found {
                    known.last = Some((found.clone(), Instant::now()));
                }
            }
            say.send_replace(Some(found));
        });
        said
    }

    fn names(&self) -> MutexGuard<'_, HashMap<String, Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Service<Name> for Names {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let names = self.clone();
        Box::pin(async move {
            let found = names.addresses(name.as_str()).await?;
            // The port is the URL's.
            Ok(found.into_iter().map(|address| SocketAddr::new(address, 0)).collect::<Vec<_>>().into_iter())
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn known(names: &Names, host: &str, age: Duration) {
        let at = Instant::now().checked_sub(age).expect("the machine runs for longer");
        names.names().entry(host.to_owned()).or_default().last = Some((vec![[192, 0, 2, 1].into()], at));
    }

    #[tokio::test]
    async fn a_name_leads_where_it_led_last_while_nothing_newer_is_known() {
        let names = Names::default();
        let host = "no-such-host.invalid";
        assert!(names.addresses(host).await.is_err());
        known(&names, host, FRESH * 2);
        assert_eq!(names.addresses(host).await.unwrap(), [IpAddr::from([192, 0, 2, 1])]);
    }

    #[tokio::test]
    async fn what_is_fresh_is_not_looked_up_and_what_is_not_is_looked_up_once_at_a_time() {
        let names = Names::default();
        known(&names, "localhost", Duration::ZERO);
        assert_eq!(names.addresses("localhost").await.unwrap(), [IpAddr::from([192, 0, 2, 1])]);
        assert!(names.names()["localhost"].lookup.is_none());
        let (_say, silent) = watch::channel(None);
        known(&names, "localhost", FRESH * 2);
        names.names().get_mut("localhost").unwrap().lookup = Some(silent);
        assert_eq!(names.addresses("localhost").await.unwrap(), [IpAddr::from([192, 0, 2, 1])]);
        names.names().get_mut("localhost").unwrap().lookup = None;
        assert!(names.addresses("localhost").await.unwrap()[0].is_loopback());
    }

    #[tokio::test]
    async fn addresses_are_their_own_names() {
        assert_eq!(Names::default().addresses("::1").await.unwrap(), ["::1".parse::<IpAddr>().unwrap()]);
    }
}
