//! Certificates and keys in PEM files, and what is made of them: rustls on ring, TLS 1.2 and 1.3.

use crate::fault::words;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why there is no TLS. Says which setting is at fault.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read.
    #[error("{key}: the file {} can't be read", path.display())]
    Read {
        /// The setting that names it.
        key: String,
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file holds something else.
    #[error("{key}: {} {detail}", path.display())]
    Content {
        /// The setting that names it.
        key: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The machine has no authorities of its own.
    #[error("this machine has no certificates of authorities; name a file of them with --ca-file")]
    NoRoots,
}

/// Files of a server whose clients show no certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServerFiles {
    /// Its certificate, then those between it and the authority.
    pub cert_file: PathBuf,
    /// The certificate's key.
    pub key_file: PathBuf,
}

/// Authorities whose certificates are trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// Those in a file, and no others.
    File(PathBuf),
    /// Those of this machine.
    System,
}

/// A certificate with what leads to its authority, and its key.
#[derive(Debug, Clone)]
pub struct Pair(Arc<CertifiedKey>);

impl Pair {
    /// Reads both and sees whether they belong together. `section` names the settings `cert_file` and `key_file` in errors.
    pub fn read(section: &str, cert_file: &Path, key_file: &Path) -> Result<Self, TlsError> {
        let (cert_key, key_key) = (format!("{section}.cert_file"), format!("{section}.key_file"));
        let chain = certificates(&cert_key, cert_file)?;
        warn_if_open(&key_key, key_file);
        let key =
            PrivateKeyDer::from_pem_file(key_file).map_err(|error| of_pem(&key_key, key_file, "private key", error))?;
        let pair = CertifiedKey::from_der(chain, key, &provider()).map_err(|error| TlsError::Content {
            key: key_key,
            path: key_file.to_owned(),
            detail: format!("does not go with {}: {error}", cert_file.display()),
        })?;
        Ok(Self(Arc::new(pair)))
    }

    /// The certificate itself, and those that lead to its authority.
    pub(crate) fn chain(&self) -> (&CertificateDer<'static>, &[CertificateDer<'static>]) {
        self.0.cert.split_first().expect("a file without a certificate was refused")
    }
}

/// Configuration of a server. With `clients`, only who shows a certificate of these authorities is served.
pub fn server(pair: &Pair, clients: Option<Arc<dyn ClientCertVerifier>>) -> ServerConfig {
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has what TLS 1.2 and 1.3 need");
    let builder = match clients {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    builder.with_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(Arc::clone(&pair.0))))
}

/// Configuration of a client that trusts `roots`, and shows `pair` if it is asked for one.
pub fn client(roots: Arc<RootCertStore>, pair: Option<&Pair>) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("ring has what TLS 1.2 and 1.3 need")
        .with_root_certificates(roots);
    match pair {
        Some(Pair(pair)) => {
            builder.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(Arc::clone(pair))))
        }
        None => builder.with_no_client_auth(),
    }
}

impl Roots {
    /// Reads them. `key` names the setting in errors.
    pub fn read(&self, key: &str) -> Result<Arc<RootCertStore>, TlsError> {
        let mut store = RootCertStore::empty();
        match self {
            Self::File(path) => {
                for certificate in certificates(key, path)? {
                    store.add(certificate).map_err(|error| TlsError::Content {
                        key: key.to_owned(),
                        path: path.clone(),
                        detail: format!("holds what is no certificate of an authority: {error}"),
                    })?;
                }
            }
            Self::System => {
                store.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
                if store.is_empty() {
                    return Err(TlsError::NoRoots);
                }
            }
        }
        Ok(Arc::new(store))
    }
}

/// Whether who dials `host` and trusts `roots` will take this certificate; if not, why not.
pub fn is_for(pair: &Pair, roots: &Arc<RootCertStore>, host: &str) -> Result<(), String> {
    let name = server_name(host).ok_or_else(|| format!("{host:?} is no name that a certificate could be for"))?;
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::clone(roots), provider())
        .build()
        .map_err(|error| error.to_string())?;
    let (own, between) = pair.chain();
    let judged = verifier.verify_server_cert(own, between, &name, &[], UnixTime::now());
    judged.map(drop).map_err(|error| words(&error).unwrap_or_else(|| error.to_string()))
}

/// Who is let in: whoever shows a certificate of these authorities.
pub(crate) fn who_shows_one_of(
    roots: &Arc<RootCertStore>,
) -> Result<Arc<dyn ClientCertVerifier>, rustls::server::VerifierBuilderError> {
    WebPkiClientVerifier::builder_with_provider(Arc::clone(roots), provider()).build()
}

/// The name that a certificate has to be for; an address of IPv6 may stand in brackets.
pub(crate) fn server_name(host: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(host.trim_matches(['[', ']']).to_owned()).ok()
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn certificates(key: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |error| of_pem(key, path, "certificate", error);
    let found: Vec<_> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<_, _>>).map_err(wrong)?;
    if found.is_empty() { Err(wrong(PemError::NoItemsFound)) } else { Ok(found) }
}

fn of_pem(key: &str, path: &Path, wanted: &str, error: PemError) -> TlsError {
    let (key, path) = (key.to_owned(), path.to_owned());
    if let PemError::Io(source) = error {
        return TlsError::Read { key, path, source };
    }
    let detail = match matches!(error, PemError::NoItemsFound) {
        true => format!("holds no {wanted} in PEM"),
        false => format!("is no good PEM: {error:?}"),
    };
    TlsError::Content { key, path, detail }
}

fn warn_if_open(key: &str, path: &Path) {
    // What can't be looked at can't be read either, which is told then.
    let Ok(metadata) = std::fs::metadata(path) else { return };
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        tracing::warn!(key, path = %path.display(), mode = format!("{mode:o}"), "key file is open to others, make it 0600");
    }
}
