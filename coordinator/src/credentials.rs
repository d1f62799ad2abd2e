//! What a coordinator shows and whom it trusts: certificates, keys and secrets, read at its start and anew at each SIGHUP.

use crate::config::{Config, ConfigError};
use crate::workers::{Workers, WorkersSettings};
use atoll_trust::{ClusterSecret, Kept, Pair, PeerTls, PostgresTls, ServerConfig, server, tell};

/// All of it. A clone is the same: what is read anew all have.
#[derive(Clone)]
pub(crate) struct Credentials {
    config: Config,
    /// The secret of the cluster.
    pub(crate) cluster: ClusterSecret,
    /// What is shown to clients, if anything.
    pub(crate) public: Option<Kept<ServerConfig>>,
    /// What coordinators and agents show each other, if anything.
    pub(crate) peers: Option<Kept<PeerTls>>,
    /// How PostgreSQL is connected to.
    postgres: PostgresTls,
}

impl Credentials {
    /// Reads all that the configuration names.
    pub(crate) fn read(config: &Config) -> Result<Self, ConfigError> {
        let public = config.server.tls.clone().map(|files| {
            Kept::new(move || Ok(server(&Pair::read("server.tls", &files.cert_file, &files.key_file)?, None)))
        });
        let peers = config.tls.clone().map(|files| PeerTls::keep(files, config.internal_host()));
        let postgres = PostgresTls::of(config.postgres.tls, config.postgres.ca_file.as_deref())?;
        Ok(Self {
            config: config.clone(),
            cluster: ClusterSecret::new(config.cluster_secret()?),
            public: public.transpose()?,
            peers: peers.transpose()?,
            postgres,
        })
    }

    /// How workers are connected to.
    pub(crate) fn workers_settings(&self) -> Result<WorkersSettings, ConfigError> {
        let config = &self.config;
        Ok(WorkersSettings {
            password: config.postgres_password()?,
            tls: self.postgres.clone(),
            pool_size: config.postgres.pool_size,
            queue: config.postgres.queue,
            statement_timeout: config.statement_timeout(),
        })
    }

    /// Reads everything anew. What is broken stays as it was, and the log says what is wrong with it.
    pub(crate) fn renew(&self, workers: &Workers) {
        let Self { config, cluster, public, peers, postgres } = self;
        if let Some(public) = public {
            tell("server.tls", public.renew());
        }
        if let Some(peers) = peers {
            tell("tls", peers.renew());
        }
        tell("postgres.ca_file", postgres.renew());
        tell("cluster.secret_file", config.cluster_secret().map(|text| cluster.replace(&text)));
        tell("postgres.password_file", config.postgres_password().map(|password| workers.change_password(&password)));
    }
}
