//! TLS of the client: which certificates are trusted, and what sessions are resumed.
//!
//! Guarantees: TLS 1.2 and 1.3 with the ring provider; every thread keeps sessions of its own, so
//! that resuming takes no lock that another thread holds.
//! Does not know: connections' bytes; those are `dialogue::secured`'s.

use std::path::Path;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, RootCertStore, SignatureScheme,
};

/// When TLS begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the first byte (RFC 8314 §3).
    Implicit,
    /// After the server has agreed to STARTTLS (RFC 3207) or STLS (RFC 2595).
    Command,
}

/// Which certificates are trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust<'a> {
    /// Those signed by the authorities that this machine trusts.
    System,
    /// Those in this PEM file, for their names, and those signed by an authority in it.
    File(&'a Path),
    /// All of them: who answers is not checked.
    Anybody,
}

/// TLS of one run.
#[derive(Debug, Clone)]
pub struct Tls {
    config: ClientConfig,
    name: ServerName<'static>,
    /// When it begins.
    pub start: Start,
    resume: bool,
}

/// Sessions that one thread may resume: a server gives out two tickets at once, as a rule, and each
/// is used once.
const SESSIONS: usize = 1024;

impl Tls {
    /// To the server that has a certificate for `name`, a host name or an IP address. `resume`:
    /// handshakes are shortened where the server allows it.
    ///
    /// # Errors
    /// Names the file, or what is wrong with the name.
    pub fn new(start: Start, name: &str, trust: Trust<'_>, resume: bool) -> Result<Tls, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?;
        let config = match trust {
            Trust::Anybody => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Anybody(provider)))
                .with_no_client_auth(),
            Trust::System => builder
                .with_root_certificates(system_authorities()?)
                .with_no_client_auth(),
            Trust::File(path) => builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(Listed::read(path, provider)?))
                .with_no_client_auth(),
        };
        let name = ServerName::try_from(name.to_owned())
            .map_err(|_| format!("--tls-name '{name}': wanted is a host name or an IP address"))?;
        Ok(Tls {
            config,
            name,
            start,
            resume,
        })
    }

    /// For one thread, with sessions of its own.
    pub fn client(&self) -> Client {
        let mut config = self.config.clone();
        config.resumption = if self.resume {
            Resumption::in_memory_sessions(SESSIONS)
        } else {
            Resumption::disabled()
        };
        Client {
            config: Arc::new(config),
            name: self.name.clone(),
            start: self.start,
        }
    }
}

/// Makes the connections of one thread.
#[derive(Debug)]
pub struct Client {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
    /// When TLS begins.
    pub start: Start,
}

impl Client {
    /// A connection whose handshake has not begun.
    ///
    /// # Errors
    /// When there is no randomness to be had.
    pub fn connect(&self) -> Result<ClientConnection, rustls::Error> {
        let mut connection = ClientConnection::new(self.config.clone(), self.name.clone())?;
        // What is written is taken at once; the bound is the dialogue's.
        connection.set_buffer_limit(None);
        Ok(connection)
    }
}

fn system_authorities() -> Result<RootCertStore, String> {
    let found = rustls_native_certs::load_native_certs();
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(found.certs);
    if store.is_empty() {
        let why = found
            .errors
            .first()
            .map_or(String::new(), |e| format!(" ({e})"));
        return Err(format!(
            "TLS: this machine trusts no certificate authority{why}; name one by --tls-ca FILE, or \
             check nothing with --tls-insecure"
        ));
    }
    Ok(store)
}

/// Takes the certificates of a file as they are: what a test server signed itself is no authority,
/// and often says that it is one, for which it would be refused otherwise. Takes those signed by
/// one of them too.
#[derive(Debug)]
struct Listed {
    certificates: Vec<CertificateDer<'static>>,
    authorities: Arc<WebPkiServerVerifier>,
}

impl Listed {
    fn read(path: &Path, provider: Arc<CryptoProvider>) -> Result<Listed, String> {
        let wrong = |why: String| {
            format!(
                "--tls-ca {}: {why}; wanted is a PEM file with certificates",
                path.display()
            )
        };
        let certificates = CertificateDer::pem_file_iter(path)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(|e| wrong(e.to_string()))?;
        let mut store = RootCertStore::empty();
        for certificate in &certificates {
            let added = store.add(certificate.clone());
            added.map_err(|e| wrong(e.to_string()))?;
        }
        let builder = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider);
        Ok(Listed {
            certificates,
            // It wants one authority at least.
            authorities: builder.build().map_err(|e| wrong(e.to_string()))?,
        })
    }
}

impl ServerCertVerifier for Listed {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.certificates.iter().any(|listed| listed == end_entity) {
            let parsed = ParsedCertificate::try_from(end_entity)?;
            verify_server_name(&parsed, server_name)?;
            return Ok(ServerCertVerified::assertion());
        }
        self.authorities.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.authorities
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.authorities
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authorities.supported_verify_schemes()
    }
}

/// Takes any certificate, of which the server has to have the key.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
