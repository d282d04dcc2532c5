//! `sslmode`, `sslrootcert`, `sslcert` and `sslkey`, in each section that leads to a server.

use std::sync::Arc;

use rustls::{
    ClientConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use tokio_postgres::config::{ChannelBinding, Config, Host, SslMode, SslNegotiation};

use super::{
    file,
    section::{Section, Text},
};
use crate::{
    postgres::Tls,
    tls::{Identity, Proof, Verifier, client},
};

/// Where Debian and Ubuntu keep the authorities that browsers trust.
const ANYBODYS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// RSA with 16,384 bits has 13 kB.
const MAX_KEY_BYTES: u64 = 64 << 10;

/// Whether TLS is used, and what it has to prove; a key `sslmode` counts more than the one in the url.
const MODES: [(&str, Mode); 5] = [
    ("disable", Mode::Disable),
    ("prefer", Mode::Prefer),
    ("require", Mode::Require),
    ("verify-ca", Mode::VerifyCa),
    ("verify-full", Mode::VerifyFull),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Mode {
    Disable,
    Prefer,
    Require,
    VerifyCa,
    VerifyFull,
}

/// What the three files hold that a section may name.
struct Files {
    authorities: Option<(Text, Vec<CertificateDer<'static>>)>,
    identity: Option<(Text, Identity)>,
}

/// TLS to PostgreSQL as libpq has it: with `sslrootcert`, `require` proves as much as `verify-ca`.
pub(super) fn of_postgres(section: &Section<'_>, config: &Config) -> Result<Option<Tls>, String> {
    let key = section.text("sslmode").map(|text| text.key);
    let given = section.choice("sslmode", &MODES);
    let files = read(section);
    if config.get_ssl_negotiation() == SslNegotiation::Direct {
        return Err("found sslnegotiation=direct, which is not supported; leave it out".to_owned());
    }
    let mode = given.unwrap_or(match config.get_ssl_mode() {
        SslMode::Disable => Mode::Disable,
        SslMode::Require => Mode::Require,
        _ => Mode::Prefer,
    });
    if mode == Mode::Disable {
        return match config.get_channel_binding() {
            ChannelBinding::Require => {
                Err("found channel_binding=require, which needs TLS, and sslmode disable; change one of them"
                    .to_owned())
            }
            _ => Ok(None),
        };
    }
    let required = mode >= Mode::Require;
    let is_socket = |host: &Host| matches!(host, Host::Unix(_));
    if required && config.get_hosts().is_empty() && !config.get_hostaddrs().is_empty() {
        return Err("has only hostaddr, and TLS is made with a name; give host, too".to_owned());
    }
    if required && config.get_hosts().iter().any(is_socket) && !config.get_hosts().iter().all(is_socket) {
        return Err("names sockets beside hosts, and sslmode asks for TLS, which sockets do not have; \
                    name hosts alone"
            .to_owned());
    }
    let proof = match mode {
        Mode::VerifyFull => Proof::Host,
        Mode::VerifyCa => Proof::Authority,
        Mode::Require if files.authorities.is_some() => Proof::Authority,
        _ => Proof::Nothing,
    };
    if proof != Proof::Nothing && files.authorities.is_none() {
        let why = format!(
            "needs sslrootcert beside it, a file with the authorities that may have made the server's \
             certificate, such as {ANYBODYS}"
        );
        section.document.refuse(&key.unwrap_or_else(|| section.path("sslmode")), why);
        return Ok(None);
    }
    Ok(made(section, proof, files).map(|config| Tls { required, config }))
}

/// TLS to the broker, where an address begins with `amqps`: its certificate has to prove the host.
pub(super) fn of_broker(section: &Section<'_>, is_wished: bool) -> Option<Arc<ClientConfig>> {
    let files = read(section);
    if !is_wished {
        return None;
    }
    if files.authorities.is_none() {
        let why = format!(
            "is missing, and amqps needs it: a file with the authorities that may have made the broker's \
             certificate, such as {ANYBODYS}"
        );
        section.document.refuse(&section.path("sslrootcert"), why);
        return None;
    }
    made(section, Proof::Host, files)
}

fn made(section: &Section<'_>, proof: Proof, files: Files) -> Option<Arc<ClientConfig>> {
    let (root, authorities) = files.authorities.unzip();
    let (certificate, identity) = files.identity.unzip();
    let refuse = |of: Option<Text>, why: String| {
        section.document.refuse(&of.map_or_else(|| section.path("sslmode"), |text| text.key), why);
    };
    let verifier =
        Verifier::new(proof, authorities.unwrap_or_default()).map_err(|why| refuse(root, why)).ok()?;
    client(verifier, identity).map_err(|why| refuse(certificate, why)).ok()
}

fn read(section: &Section<'_>) -> Files {
    let refuse = |key: &str, why: &str| section.document.refuse(key, why);
    let certificates = |key: &'static str| {
        let (text, content) = file::public(section, key)?;
        let found: Vec<_> =
            CertificateDer::pem_slice_iter(content.as_bytes()).filter_map(Result::ok).collect();
        if found.is_empty() {
            refuse(&text.key, "its file holds no certificate, expected PEM: -----BEGIN CERTIFICATE-----");
            return None;
        }
        Some((text, found))
    };
    let (authorities, certificate) = (certificates("sslrootcert"), certificates("sslcert"));
    let key = file::secret(section, "sslkey", MAX_KEY_BYTES).map(|(text, content)| {
        let key = PrivateKeyDer::from_pem_slice(content.expose().as_bytes()).ok();
        if key.is_none() {
            let why =
                "its file holds no private key without a password, expected PEM: -----BEGIN PRIVATE KEY-----";
            refuse(&text.key, why);
        }
        (text, key)
    });
    let identity = match (certificate, key) {
        (Some((text, certificates)), Some((_, Some(key)))) => Some((text, (certificates, key))),
        (Some((text, _)), None) => {
            refuse(&text.key, "needs sslkey beside it, the file of its private key");
            None
        }
        (None, Some((text, _))) => {
            refuse(&text.key, "needs sslcert beside it, the file of the certificate that it belongs to");
            None
        }
        _ => None,
    };
    Files { authorities, identity }
}
