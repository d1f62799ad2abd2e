//! Export: every entry as a stream, shard after shard, each as of one moment.

use super::Reader;
use crate::error::RequestError;
use crate::targets::Target;
use crate::workers::copy::{self, Exported};
use atoll_core::access::{Grant, Touched};
use atoll_proto::entry::Entry;
use atoll_proto::{CollectionName, Namespace};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Entries that may wait for the client.
const AHEAD: usize = 64;

/// An export under way.
pub struct Export {
    /// The entries, or why they end early.
    pub entries: mpsc::Receiver<Result<Entry, RequestError>>,
    /// Who reads them. Only one that ended without a panic has read them all.
    pub producer: JoinHandle<()>,
}

impl Reader {
    /// Starts an export. The stream ends with an error if a shard fails: an export is never silently partial.
    pub fn export(
        &self,
        collection: &CollectionName,
        namespace: Option<&Namespace>,
        grant: &Grant,
    ) -> Result<Export, RequestError> {
        let target = Target::find(&self.views, collection, grant)?;
        let routes = match namespace {
            Some(namespace) => vec![target.route(namespace)?.clone()],
            None => target.routes(Touched::All)?.to_vec(),
        };
        let namespace = namespace.cloned();
        let (out, entries) = mpsc::channel(AHEAD);
        let workers = self.workers.clone();
        let producer = tokio::spawn(async move {
            for route in routes {
                let place = target.place(&workers, &route);
                let namespace = namespace.as_ref().map(Namespace::as_str);
                let error = match copy::export(&place.pool, &place.table, namespace, &out).await {
                    Ok(Exported::Whole) => continue,
                    Ok(Exported::Abandoned) => RequestError::Deadline,
                    Err(error) => place.read_error(error),
                };
                // Nobody listens any more, or is told why the stream ends.
                let _ = out.send(Err(error)).await;
                return;
            }
        });
        Ok(Export { entries, producer })
    }
}
