//! The managed server's certificate. The server runs as another user, so it gets copies of its own beside its data.

use crate::identity::write_whole;
use crate::pg::account::Account;
use crate::pg::find::Install;
use crate::pg::init::clean_environment;
use crate::pg::layout::Layout;
use crate::pg::process::Postmaster;
use atoll_trust::{Pair, Roots, TlsError, is_for};
use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Names of the copies in their folder.
const CERTIFICATE: &str = "server.crt";
const KEY: &str = "server.key";
const AUTHORITIES: &str = "ca.crt";

/// What the server shows, and whom it trusts when it copies a shard from another.
#[derive(Debug)]
pub struct ServerTls {
    /// Where the copies go.
    pub layout: Layout,
    /// Who runs the server, if not we.
    pub account: Option<Account>,
    /// The host that the certificate has to be for.
    pub host: String,
    /// `postgres.ca_file`.
    pub ca_file: PathBuf,
    /// `postgres.cert_file`.
    pub cert_file: PathBuf,
    /// `postgres.key_file`.
    pub key_file: PathBuf,
}

/// Why the server gets no certificate.
#[derive(Debug, thiserror::Error)]
pub enum ServerTlsError {
    /// The files.
    #[error(transparent)]
    Files(#[from] TlsError),
    /// Nobody would take it.
    #[error("postgres.cert_file: {} would be refused by those who connect: {reason}", path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// A copy can't be made.
    #[error("{} cannot be written for the server", path.display())]
    Copy {
        /// The copy.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The programs can't do it.
    #[error(
        "the PostgreSQL in {} was built without TLS; use one of the distribution's (postgres.bin), or leave postgres.tls out",
        bin.display()
    )]
    Unable {
        /// Their folder.
        bin: PathBuf,
    },
}

impl ServerTls {
    /// Gives the server its copies, if they are such that those who connect will take them.
    pub fn hand_over(&self) -> Result<(), ServerTlsError> {
        let Self { layout, account, host, ca_file, cert_file, key_file } = self;
        let roots = Roots::File(ca_file.clone()).read("postgres.ca_file")?;
        let pair = Pair::read("postgres", cert_file, key_file)?;
        is_for(&pair, &roots, host).map_err(|reason| ServerTlsError::Refused { path: cert_file.clone(), reason })?;
        let folder = layout.tls();
        std::fs::create_dir_all(&folder).map_err(at(&folder))?;
        std::fs::set_permissions(&folder, Permissions::from_mode(0o700)).map_err(at(&folder))?;
        let own = |path: &Path| account.as_ref().map_or(Ok(()), |account| account.own(path));
        own(&folder).map_err(at(&folder))?;
        for (from, to) in [(ca_file, AUTHORITIES), (cert_file, CERTIFICATE), (key_file, KEY)] {
            let to = folder.join(to);
            let copied = std::fs::read(from).and_then(|bytes| write_whole(&to, &bytes)).and_then(|()| own(&to));
            copied.map_err(at(&to))?;
        }
        Ok(())
    }

    /// The same again for a server that runs, which takes them up for new connections.
    pub fn renew(&self) -> Result<(), ServerTlsError> {
        self.hand_over()?;
        if let Some((postmaster, _)) = Postmaster::find_running(&self.layout) {
            postmaster.reload();
        }
        Ok(())
    }

    /// The copy of the authorities, for the server's own connections.
    pub fn authorities(&self) -> PathBuf {
        self.layout.tls().join(AUTHORITIES)
    }

    /// Whether the programs can do TLS at all, asked of them on their data directory.
    pub fn check(&self, install: &Install) -> Result<(), ServerTlsError> {
        let program = install.bin.join("postgres");
        let mut command = Command::new(&program);
        // In this order also root may ask.
        command.args(["-C", "ssl_library", "-D"]).arg(self.layout.data_dir()).stdin(Stdio::null());
        clean_environment(&mut command);
        let output = command.output().map_err(at(&program))?;
        if output.status.success() && !output.stdout.trim_ascii().is_empty() {
            return Ok(());
        }
        Err(ServerTlsError::Unable { bin: install.bin.clone() })
    }
}

/// Settings of a server whose copies are in `folder`.
pub(super) fn settings(folder: &Path) -> String {
    let quoted = |name| super::conf::quoted(&folder.join(name).to_string_lossy());
    format!(
        "ssl = on\n\
         ssl_min_protocol_version = 'TLSv1.2'\n\
         ssl_cert_file = {}\n\
         ssl_key_file = {}\n",
        quoted(CERTIFICATE),
        quoted(KEY)
    )
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> ServerTlsError {
    let path = path.to_owned();
    move |source| ServerTlsError::Copy { path, source }
}
