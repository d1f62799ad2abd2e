//! What the agent shows and whom it trusts: certificates, keys and secrets, read at its start and anew at each SIGHUP.

use crate::config::Config;
use crate::pg::bootstrap;
use crate::secret::{Secret, SecretError};
use crate::worker::Worker;
use atoll_trust::{ClusterSecret, Kept, PeerTls, PostgresTls, TlsError, tell};

/// All of it.
#[derive(Debug)]
pub struct Credentials {
    /// The secret of the cluster.
    pub cluster: ClusterSecret,
    /// What agent and coordinators show each other, if anything.
    pub peers: Option<Kept<PeerTls>>,
    /// How PostgreSQL is connected to.
    pub postgres: PostgresTls,
}

/// Why they can't be had.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// A secret cannot be read.
    #[error("a secret is missing")]
    Secret(#[from] SecretError),
    /// Certificates or keys.
    #[error("TLS cannot be set up")]
    Tls(#[from] TlsError),
}

impl Credentials {
    /// Reads all that the configuration names.
    pub fn read(config: &Config) -> Result<Self, CredentialsError> {
        let peers = config.tls.clone().map(|files| PeerTls::keep(files, config.agent_host()));
        let postgres = PostgresTls::of(config.postgres.tls, config.postgres.ca_file.as_deref())?;
        let cluster = ClusterSecret::new(Secret::read(&config.cluster_secret_file)?.expose());
        Ok(Self { cluster, peers: peers.transpose()?, postgres })
    }
}

/// Reads everything anew, and has the server take it up. What is broken stays as it was, and the log says what is wrong with it.
pub async fn renew(worker: &Worker) {
    let Worker { config, credentials, server_tls, .. } = worker;
    let target = worker.target();
    if let Some(peers) = &credentials.peers {
        tell("tls", peers.renew());
    }
    tell("postgres.ca_file", credentials.postgres.renew());
    let secret = Secret::read(&config.cluster_secret_file);
    tell("cluster_secret_file", secret.map(|secret| credentials.cluster.replace(secret.expose())));
    if let Some(password) = &target.password {
        tell("postgres.password_file", password.renew());
    }
    if let Some(server_tls) = server_tls {
        tell("postgres.cert_file", server_tls.renew());
    }
    if worker.is_still() {
        // A standby gets it with what its primary writes.
        return;
    }
    match Secret::read(&config.postgres_password_file) {
        // A server that is away gets it when it comes back.
        Ok(password) => tell("postgres_password_file", bootstrap::make_ready(&target, &password).await),
        Err(error) => tell("postgres_password_file", Err(error)),
    }
}
