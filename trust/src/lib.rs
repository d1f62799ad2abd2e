//! Whom Atoll's programs trust, and how they show who they are: certificates and keys in files, and the secret of the cluster. Both
//! programs take them from here, so that they agree.
//!
//! Everything that was read from a file is [`Kept`] and can be read anew while the program runs. New connections use what was read
//! last; those that are there go on with what they began with.

mod certificates;
mod connector;
mod fault;
mod kept;
mod listener;
mod names;
mod peers;
mod postgres;
mod secret;

pub use certificates::{Pair, Roots, ServerFiles, TlsError, client, is_for, server};
pub use connector::{ByScheme, Connector, MaybeTls};
pub use fault::{Remedy, TlsFault, explained};
pub use kept::{Kept, tell};
pub use listener::{Loudness, TlsListener};
pub use names::Names;
pub use peers::{PeerFiles, PeerTls};
pub use postgres::{PostgresTls, PostgresTlsMode};
pub use rustls::{ClientConfig, ServerConfig};
pub use secret::ClusterSecret;
pub use tokio_rustls::server::TlsStream;
