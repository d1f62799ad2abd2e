//! Authorities and certificates of a story's own.

use rcgen::{BasicConstraints, Certificate, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// An authority that certificates are made by.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: Certificate,
}

/// Where a certificate and its key lie.
#[derive(Debug, Clone)]
pub struct Files {
    /// The certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Authority {
    /// A new one of this name.
    pub fn new(name: &str) -> Self {
        let mut params = params(&[], name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.self_signed(&key).expect("an authority can be made");
        Self { issuer: Issuer::new(params, key), certificate }
    }

    /// Its certificate.
    pub fn pem(&self) -> String {
        self.certificate.pem()
    }

    /// Writes its certificate to a file.
    pub fn write(&self, path: &Path) -> PathBuf {
        write(path, &self.pem());
        path.to_owned()
    }

    /// Makes a certificate for these hosts, as `cert.pem` and `key.pem` in a folder.
    pub fn certify(&self, hosts: &[&str], folder: &Path) -> Files {
        self.sign(params(hosts, "member"), folder)
    }

    /// Makes one that has expired.
    pub fn certify_expired(&self, hosts: &[&str], folder: &Path) -> Files {
        let mut params = params(hosts, "member of long ago");
        params.not_after = date_time_ymd(2020, 1, 1);
        self.sign(params, folder)
    }

    fn sign(&self, params: CertificateParams, folder: &Path) -> Files {
        std::fs::create_dir_all(folder).expect("the folder is ours");
        let key = KeyPair::generate().expect("a key can be made");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate can be made");
        let files = Files { cert: folder.join("cert.pem"), key: folder.join("key.pem") };
        write(&files.cert, &certificate.pem());
        write(&files.key, &key.serialize_pem());
        files
    }
}

fn params(hosts: &[&str], name: &str) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).expect("hosts that can be in a certificate");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// For its owner alone.
fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o600)).expect("the file is ours");
}
