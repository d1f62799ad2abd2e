//! What all parts of the agent share about its worker.

use crate::config::Config;
use crate::credentials::Credentials;
use crate::desired::loads::Loads;
use crate::identity::{Identity, IdentityError, Membership};
use crate::pg::connect::Target;
use crate::pg::facts::ServerFacts;
use crate::pg::server_tls::ServerTls;
use crate::status::Status;
use crate::telemetry::Metrics;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use tokio::sync::watch;

/// The worker: its settings, its server, its identity and what is known of it.
#[derive(Debug)]
pub struct Worker {
    /// Settings.
    pub config: Config,
    /// What it shows, and whom it trusts.
    pub credentials: Credentials,
    /// The certificate of a managed server, if it has one.
    pub server_tls: Option<ServerTls>,
    /// Whether the server can be worked with.
    pub server: Server,
    /// What is told to who asks.
    pub status: Status,
    /// What imports load, as coordinators say.
    pub loads: watch::Sender<Loads>,
    /// Every metric.
    pub metrics: Metrics,
    /// Whether the server is a group's, and not the group's primary that is active.
    still: AtomicBool,
    /// How to connect to the server.
    target: watch::Sender<Target>,
    identity: Mutex<Identity>,
    identity_file: PathBuf,
}

/// Whether the server can be worked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerState {
    /// It does not answer.
    Down {
        /// Why.
        reason: String,
    },
    /// It answers but may not be a worker.
    Refused {
        /// Why, and what to do.
        reason: String,
    },
    /// It holds what another writes, or shall not take writes yet: there is nothing to make or to change on it.
    Standby,
    /// It can.
    Ready(Box<ServerFacts>),
}

/// The server's state, to read and to wait on.
#[derive(Debug)]
pub struct Server(watch::Sender<ServerState>);

impl Server {
    /// Nothing is known yet.
    pub fn unknown() -> Self {
        Self(watch::Sender::new(ServerState::Down { reason: "it has not answered yet".to_owned() }))
    }

    /// Notes a state.
    pub fn set(&self, state: ServerState) {
        self.0.send_if_modified(|now| {
            let changed = *now != state;
            *now = state;
            changed
        });
    }

    /// Watches the state.
    pub fn watch(&self) -> watch::Receiver<ServerState> {
        self.0.subscribe()
    }

    /// Version of the ready server, such as 180004.
    pub fn version_num(&self) -> Option<u32> {
        match &*self.0.borrow() {
            ServerState::Ready(facts) => Some(facts.version_num),
            ServerState::Down { .. } | ServerState::Refused { .. } | ServerState::Standby => None,
        }
    }

    /// What the ready server's data are known by.
    pub fn system_identifier(&self) -> Option<String> {
        match &*self.0.borrow() {
            ServerState::Ready(facts) => Some(facts.system_identifier.clone()),
            ServerState::Down { .. } | ServerState::Refused { .. } | ServerState::Standby => None,
        }
    }

    /// When the ready server started; else why it is not ready.
    pub fn ready(&self) -> Result<i64, String> {
        match &*self.0.borrow() {
            ServerState::Ready(facts) => Ok(facts.started_at_us),
            ServerState::Down { reason } | ServerState::Refused { reason } => Err(reason.clone()),
            ServerState::Standby => Err("it is not its group's primary".to_owned()),
        }
    }
}

impl Worker {
    /// Brings the parts together; reads the identity or makes one.
    pub fn new(
        config: Config,
        credentials: Credentials,
        target: Target,
        server_tls: Option<ServerTls>,
        identity_file: PathBuf,
    ) -> Result<Self, IdentityError> {
        let identity = Identity::load_or_make(&identity_file)?;
        let status = Status::default();
        status.member(identity.membership.as_ref().map(|membership| membership.worker));
        Ok(Self {
            config,
            credentials,
            server_tls,
            server: Server::unknown(),
            status,
            loads: watch::Sender::default(),
            metrics: Metrics::new(),
            still: AtomicBool::new(false),
            target: watch::Sender::new(target),
            identity: Mutex::new(identity),
            identity_file,
        })
    }

    /// Whether all that works with the server is to keep still, because it is no active primary of its group.
    pub fn is_still(&self) -> bool {
        self.still.load(Ordering::Acquire)
    }

    /// Has them keep still, or go on.
    pub fn hold_still(&self, still: bool) {
        self.still.store(still, Ordering::Release);
        if still {
            self.server.set(ServerState::Standby);
        }
    }

    /// How to connect to the server, as of now.
    pub fn target(&self) -> Target {
        self.target.borrow().clone()
    }

    /// Tells when the server is elsewhere.
    pub fn target_watch(&self) -> watch::Receiver<Target> {
        self.target.subscribe()
    }

    /// The server is elsewhere from now on.
    pub fn follow(&self, target: Target) {
        // What was known is the other one's.
        self.status.answered(false);
        self.target.send_replace(target);
    }

    /// Who it is.
    pub fn identity(&self) -> Identity {
        self.locked().clone()
    }

    /// Its random uid.
    pub fn uid(&self) -> String {
        self.locked().uid.clone()
    }

    /// Keeps what an external server's data are known by, on disk first.
    pub fn keep_server(&self, server: String) -> Result<(), IdentityError> {
        let mut identity = self.locked();
        if identity.server.is_some() {
            return Ok(());
        }
        let changed = Identity { server: Some(server), ..identity.clone() };
        changed.keep(&self.identity_file)?;
        *identity = changed;
        Ok(())
    }

    /// Its place in its cluster, once it registered.
    pub fn membership(&self) -> Option<Membership> {
        self.locked().membership.clone()
    }

    /// Keeps a membership, on disk first.
    pub fn keep_membership(&self, membership: Membership) -> Result<(), IdentityError> {
        let mut identity = self.locked();
        if identity.membership.as_ref() == Some(&membership) {
            return Ok(());
        }
        let changed = Identity { membership: Some(membership.clone()), ..identity.clone() };
        changed.keep(&self.identity_file)?;
        *identity = changed;
        self.status.member(Some(membership.worker));
        Ok(())
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, Identity> {
        // A panic cannot leave the identity half changed: it is replaced whole.
        self.identity.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
