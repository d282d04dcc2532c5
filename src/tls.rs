//! TLS, to PostgreSQL and to the broker alike: whom we trust, and who we are.

use std::{io, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{
        WebPkiSupportedAlgorithms, ring::default_provider, verify_tls12_signature, verify_tls13_signature,
    },
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
    server::ParsedCertificate,
};

/// What a server's certificate has to prove, as libpq's `sslmode` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Nothing: who listens on the way learns nothing, who stands on it may be the server.
    Nothing,
    /// That an authority of ours vouches for it: `verify-ca`.
    Authority,
    /// That it was made for the host that was named, too: `verify-full`.
    Host,
}

/// Our certificate, those that lead from it to an authority, and its key.
pub type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

/// How connections are secured to servers that this verifier takes, which are shown this identity.
///
/// # Errors
/// When the identity's certificates and key are not what they should be.
pub fn client(verifier: Verifier, identity: Option<Identity>) -> Result<Arc<ClientConfig>, String> {
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let config = match identity {
        None => config.with_no_client_auth(),
        Some((certificates, key)) => config
            .with_client_auth_cert(certificates, key)
            .map_err(|error| format!("does not go with its key: {error}"))?,
    };
    Ok(Arc::new(config))
}

/// Says what to do about a handshake that failed.
pub fn explain(error: io::Error) -> io::Error {
    let refused = error.get_ref().and_then(|source| source.downcast_ref::<Error>());
    let remedy = match refused {
        Some(Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        )) => "its subjectAltName has to name the host as the url does",
        Some(Error::InvalidCertificate(_)) => "sslrootcert has to hold the authority that made it",
        Some(Error::AlertReceived(_)) => "the server may ask for another sslcert",
        _ => return error,
    };
    io::Error::new(error.kind(), format!("{error}; {remedy}"))
}

/// Looks at a server's certificate as far as is asked for.
#[derive(Debug)]
pub struct Verifier {
    proof: Proof,
    authorities: Vec<CertificateDer<'static>>,
    /// None where nothing is to be proved.
    chain: Option<Arc<WebPkiServerVerifier>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    /// Asks for this proof, by these authorities.
    ///
    /// # Errors
    /// When one of them is none, or there is none and one is needed.
    pub fn new(proof: Proof, authorities: Vec<CertificateDer<'static>>) -> Result<Self, String> {
        let provider = Arc::new(default_provider());
        let algorithms = provider.signature_verification_algorithms;
        if proof == Proof::Nothing {
            return Ok(Self { proof, authorities, chain: None, algorithms });
        }
        let mut roots = RootCertStore::empty();
        for authority in &authorities {
            let added = roots.add(authority.clone());
            added.map_err(|error| format!("holds what is no authority's certificate: {error}"))?;
        }
        let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider).build();
        let chain = chain.map_err(|error| format!("holds no authority's certificate: {error}"))?;
        Ok(Self { proof, authorities, chain: Some(chain), algorithms })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        // A server may vouch for itself. The library takes no authority's certificate for a server's.
        if self.authorities.contains(certificate) {
            if self.proof == Proof::Host {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, host)?;
            }
            return Ok(ServerCertVerified::assertion());
        }
        match chain.verify_server_cert(certificate, intermediates, host, ocsp_response, now) {
            // The chain is looked at before the name.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) if self.proof == Proof::Authority => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
