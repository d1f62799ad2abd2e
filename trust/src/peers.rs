//! Mutual TLS between the programs of a cluster: both sides show a certificate of the cluster's own authority.

use crate::certificates::{Pair, Roots, TlsError, client, is_for, server, who_shows_one_of};
use crate::fault::words;
use crate::kept::Kept;
use rustls::pki_types::UnixTime;
use rustls::{ClientConfig, ServerConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;

const SECTION: &str = "tls";

/// `[tls]`: the files of one program of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PeerFiles {
    /// Certificate of the cluster's authority; several while it changes.
    pub ca_file: PathBuf,
    /// This program's certificate, then those between it and the authority.
    pub cert_file: PathBuf,
    /// The certificate's key.
    pub key_file: PathBuf,
}

/// What a program of the cluster shows the others, and whom it trusts.
#[derive(Debug)]
pub struct PeerTls {
    /// For its own listener.
    pub server: Arc<ServerConfig>,
    /// For what it asks of others.
    pub client: Arc<ClientConfig>,
}

impl PeerTls {
    /// Reads the files of a program that others reach at `host`. A certificate that those would refuse is refused here.
    pub fn keep(files: PeerFiles, host: String) -> Result<Kept<Self>, TlsError> {
        Kept::new(move || Self::read(&files, &host))
    }

    fn read(files: &PeerFiles, host: &str) -> Result<Self, TlsError> {
        let PeerFiles { ca_file, cert_file, key_file } = files;
        let roots = Roots::File(ca_file.clone()).read(&format!("{SECTION}.ca_file"))?;
        let pair = Pair::read(SECTION, cert_file, key_file)?;
        let refused = |detail: String| TlsError::Content {
            key: format!("{SECTION}.cert_file"),
            path: cert_file.clone(),
            detail: format!("would be refused by the others: {detail}"),
        };
        is_for(&pair, &roots, host).map_err(refused)?;
        let verifier = who_shows_one_of(&roots).map_err(|error| refused(error.to_string()))?;
        let (own, between) = pair.chain();
        let as_client = verifier.verify_client_cert(own, between, UnixTime::now());
        as_client.map_err(|error| refused(words(&error).unwrap_or_else(|| error.to_string())))?;
        Ok(Self { server: Arc::new(server(&pair, Some(verifier))), client: Arc::new(client(roots, Some(&pair))) })
    }
}
