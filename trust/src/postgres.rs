//! TLS to PostgreSQL: off, or with everything checked. Nothing in between: encryption with whoever answers keeps nobody out.

use crate::certificates::{Roots, TlsError, client};
use crate::kept::Kept;
use rustls::{ClientConfig, RootCertStore};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::path::Path;
use std::sync::Arc;
use tokio_postgres::Socket;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres_rustls::MakeRustlsConnect;

/// `postgres.tls`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PostgresTlsMode {
    /// Nothing is encrypted.
    #[default]
    Off,
    /// Encrypted, with a server whose certificate is of a trusted authority and for the host that is dialled.
    VerifyFull,
}

/// How PostgreSQL is connected to.
#[derive(Debug, Clone)]
pub struct PostgresTls {
    mode: PostgresTlsMode,
    kept: Kept<ClientConfig>,
}

impl PostgresTls {
    /// As the configuration says; whoever reads it refuses a mode that lacks its file.
    pub fn of(mode: PostgresTlsMode, ca_file: Option<&Path>) -> Result<Self, TlsError> {
        match (mode, ca_file) {
            (PostgresTlsMode::VerifyFull, Some(ca_file)) => Self::verify_full(ca_file),
            (PostgresTlsMode::VerifyFull, None) | (PostgresTlsMode::Off, _) => Ok(Self::off()),
        }
    }

    /// Not encrypted.
    pub fn off() -> Self {
        // Nobody asks it for a handshake; if somebody did, it trusts nobody.
        let nobody = || Ok(client(Arc::new(RootCertStore::empty()), None));
        Self { mode: PostgresTlsMode::Off, kept: Kept::new(nobody).expect("nothing in it can fail") }
    }

    /// Encrypted and checked, by the authorities in `ca_file` (`postgres.ca_file` in errors).
    pub fn verify_full(ca_file: &Path) -> Result<Self, TlsError> {
        let roots = Roots::File(ca_file.to_owned());
        let kept = Kept::new(move || Ok(client(roots.read("postgres.ca_file")?, None)))?;
        Ok(Self { mode: PostgresTlsMode::VerifyFull, kept })
    }

    /// What the client library is to insist on.
    pub fn ssl_mode(&self) -> SslMode {
        match self.mode {
            PostgresTlsMode::Off => SslMode::Disable,
            PostgresTlsMode::VerifyFull => SslMode::Require,
        }
    }

    /// Reads the authorities anew.
    pub fn renew(&self) -> Result<(), TlsError> {
        self.kept.renew()
    }
}

impl MakeTlsConnect<Socket> for PostgresTls {
    type Stream = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream;
    type TlsConnect = <MakeRustlsConnect as MakeTlsConnect<Socket>>::TlsConnect;
    type Error = <MakeRustlsConnect as MakeTlsConnect<Socket>>::Error;

    fn make_tls_connect(&mut self, host: &str) -> Result<Self::TlsConnect, Self::Error> {
        let mut connect = MakeRustlsConnect::new(ClientConfig::clone(&self.kept.now()));
        MakeTlsConnect::<Socket>::make_tls_connect(&mut connect, host)
    }
}
