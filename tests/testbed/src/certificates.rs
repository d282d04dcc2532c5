//! Certificates for servers and clients, made for one test.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};

use crate::port::random_hex;

/// Vouches for the certificates that it made.
#[derive(Debug)]
pub struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl Authority {
    /// A new one, which nobody else trusts.
    #[must_use]
    pub fn new() -> Self {
        let mut parameters = CertificateParams::new(Vec::new()).expect("no names are fine");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, format!("authority {}", random_hex(4)));
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters.self_signed(&key).expect("a certificate").pem();
        Self { certificate, issuer: Issuer::new(parameters, key) }
    }

    /// Its own certificate, in PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// A certificate of `subject`, a server at `host` or a client.
    #[must_use]
    pub fn certify(&self, subject: &str, host: &str) -> Certificate {
        let mut parameters = CertificateParams::new(vec![host.to_owned()]).expect("a host's name");
        parameters.distinguished_name.push(DnType::CommonName, subject);
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters.signed_by(&key, &self.issuer).expect("a certificate").pem();
        Certificate { certificate, key: key.serialize_pem() }
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

/// The files of a server that is reached by TLS: its certificate, its key, and the authority that its clients have to
/// have theirs from.
#[derive(Clone, Debug)]
pub struct ServerFiles {
    server: Certificate,
    authority: String,
}

impl ServerFiles {
    /// For a server on 127.0.0.1 whose clients are known to `authority`, which made its certificate for `host`.
    #[must_use]
    pub fn new(authority: &Authority, host: &str) -> Self {
        Self { server: authority.certify("server", host), authority: authority.certificate().to_owned() }
    }

    /// The same with a certificate that nobody but itself vouches for, made as one for an authority, as most are.
    #[must_use]
    pub fn self_made(self, host: &str) -> Self {
        let mut parameters = CertificateParams::new(vec![host.to_owned()]).expect("a host's name");
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = parameters.self_signed(&key).expect("a certificate").pem();
        Self { server: Certificate { certificate, key: key.serialize_pem() }, ..self }
    }

    /// The server's certificate, in PEM.
    #[must_use]
    pub fn certificate(&self) -> &str {
        &self.server.certificate
    }

    /// Writes `server.crt`, `server.key` and `root.crt`.
    pub(crate) fn write(&self, directory: &Path) {
        let Certificate { certificate, key } = &self.server;
        for (name, text) in [("server.crt", certificate), ("server.key", key), ("root.crt", &self.authority)]
        {
            let file = directory.join(name);
            fs::write(&file, text).expect("the directory is ours");
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).expect("the file is ours");
        }
    }
}
