//! What libpq's `sslmode` and `sslrootcert` mean, said to rustls.
//!
//! Differences from libpq, all of them stricter: a certificate must name the host in a subject alternative name (its
//! common name is not looked at); a self-signed server certificate cannot be its own authority; client certificates
//! and revocation lists are not used.

use std::{path::Path, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{
    config::{ConnectionSpec, SslMode},
    model::ErrorCode,
    source::SourceError,
};

/// The TLS client for a connection whose mode may use TLS.
///
/// # Errors
/// `ConfigInvalid` when `sslrootcert` is needed and missing, or holds no certificate.
pub(super) fn connector(spec: &ConnectionSpec) -> Result<MakeRustlsConnect, SourceError> {
    client_config(spec).map(MakeRustlsConnect::new)
}

fn client_config(spec: &ConnectionSpec) -> Result<ClientConfig, SourceError> {
    let provider = Arc::new(ring::default_provider());
    let verifier: Arc<dyn ServerCertVerifier> = match (spec.sslmode, &spec.sslrootcert) {
        (SslMode::VerifyFull, Some(path)) => chain_verifier(path, &provider)?,
        (SslMode::VerifyCa | SslMode::Require, Some(path)) => {
            Arc::new(AnyName { chain: chain_verifier(path, &provider)? })
        }
        (SslMode::VerifyCa | SslMode::VerifyFull, None) => {
            let message = format!("sslmode {} needs sslrootcert, the certificates to trust", spec.sslmode.as_str());
            return Err(SourceError::new(ErrorCode::ConfigInvalid, message));
        }
        (SslMode::Require | SslMode::Prefer | SslMode::Allow | SslMode::Disable, _) => {
            Arc::new(Unverified { provider: Arc::clone(&provider) })
        }
    };
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| SourceError::new(ErrorCode::Internal, format!("TLS cannot be set up: {error}")))?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(config)
}

fn chain_verifier(path: &Path, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, SourceError> {
    let invalid = |why: &dyn std::fmt::Display| {
        SourceError::new(ErrorCode::ConfigInvalid, format!("sslrootcert {}: {why}", path.display()))
    };
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|error| invalid(&error))? {
        let certificate = certificate.map_err(|error| invalid(&error))?;
        roots.add(certificate).map_err(|error| invalid(&error))?;
    }
    if roots.is_empty() {
        return Err(invalid(&"holds no certificate in PEM form"));
    }
    WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider))
        .build()
        .map_err(|error| invalid(&error))
}

/// `verify-ca`: a certificate of a trusted authority, whatever host it names.
#[derive(Debug)]
struct AnyName {
    chain: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for AnyName {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            // The name is the last thing that is verified: the chain is good.
            Err(Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// `allow`, `prefer` and `require` without `sslrootcert`: encryption without knowing to whom, as libpq has it.
#[derive(Debug)]
struct Unverified {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rustls::{ClientConnection, ServerConfig, ServerConnection, pki_types::PrivateKeyDer};

    use super::*;
    use crate::config::PasswordSource;

    fn openssl(folder: &Path, arguments: &str) {
        let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output().unwrap();
        assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// An authority `NAME.pem`, and a certificate of it for db.example, `NAME-server.pem`.
    fn make_certificates(folder: &Path, name: &str) {
        let new = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";
        openssl(folder, &format!("req -x509 {new} -days 30 -subj /CN={name} -keyout {name}.key -out {name}.pem"));
        openssl(folder, &format!("req {new} -subj /CN=db.example -keyout {name}-server.key -out {name}.csr"));
        std::fs::write(folder.join("san"), "subjectAltName=DNS:db.example\n").unwrap();
        openssl(
            folder,
            &format!(
                "x509 -req -in {name}.csr -CA {name}.pem -CAkey {name}.key -days 30 -extfile san -out {name}-server.pem"
            ),
        );
    }

    fn spec(sslmode: SslMode, sslrootcert: Option<&Path>) -> ConnectionSpec {
        ConnectionSpec {
            host: "db.example".to_owned(),
            port: 5432,
            user: "u".to_owned(),
            database: "d".into(),
            password: PasswordSource::None,
            sslmode,
            sslrootcert: sslrootcert.map(Path::to_owned),
            connect_timeout: 1,
        }
    }

    /// A handshake in memory with the server that has the authority's certificate.
    fn handshake(folder: &Path, authority: &str, spec: &ConnectionSpec, host: &'static str) -> Result<(), Error> {
        let path = |end: &str| folder.join(format!("{authority}-server.{end}"));
        let chain = CertificateDer::pem_file_iter(path("pem")).unwrap().map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_file(path("key")).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let mut server = ServerConnection::new(Arc::new(config)).unwrap();
        let name = ServerName::try_from(host).unwrap();
        let mut client = ClientConnection::new(Arc::new(client_config(spec).unwrap()), name).unwrap();
        while client.is_handshaking() || server.is_handshaking() {
            let mut bytes = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut bytes).unwrap();
            }
            server.read_tls(&mut bytes.as_slice()).unwrap();
            server.process_new_packets()?;
            bytes.clear();
            while server.wants_write() {
                server.write_tls(&mut bytes).unwrap();
            }
            client.read_tls(&mut bytes.as_slice()).unwrap();
            client.process_new_packets()?;
        }
        Ok(())
    }

    #[test]
    fn modes_verify_what_libpq_verifies() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        make_certificates(folder, "known");
        make_certificates(folder, "stranger");
        let root = folder.join("known.pem");
        let accepts =
            |mode, root: Option<&Path>, authority, host| handshake(folder, authority, &spec(mode, root), host).is_ok();
        for mode in [SslMode::Allow, SslMode::Prefer, SslMode::Require] {
            assert!(accepts(mode, None, "stranger", "other.example"), "{mode:?}");
        }
        for mode in [SslMode::Require, SslMode::VerifyCa] {
            assert!(accepts(mode, Some(&root), "known", "other.example"), "{mode:?}");
            assert!(!accepts(mode, Some(&root), "stranger", "db.example"), "{mode:?}");
        }
        assert!(accepts(SslMode::VerifyFull, Some(&root), "known", "db.example"));
        assert!(!accepts(SslMode::VerifyFull, Some(&root), "known", "other.example"));
        assert!(!accepts(SslMode::VerifyFull, Some(&root), "stranger", "db.example"));
    }

    #[test]
    fn certificates_to_trust_must_be_there() {
        for mode in [SslMode::VerifyCa, SslMode::VerifyFull] {
            assert_eq!(client_config(&spec(mode, None)).unwrap_err().code(), ErrorCode::ConfigInvalid);
        }
        let error = client_config(&spec(SslMode::VerifyCa, Some(Path::new("/nonexistent")))).unwrap_err();
        assert!(error.to_string().contains("/nonexistent"), "{error}");
        assert!(client_config(&spec(SslMode::VerifyCa, Some(Path::new("/dev/null")))).is_err());
    }
}
