//! One request of HTTP/1.1 over a connection of its own. Redirections are not followed: they could lead a secret astray.
//!
//! Invariant: no error names more of the address than scheme, host and port; the rest of it is a secret.

use std::{path::Path, sync::Arc};

use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    Request, StatusCode, Uri,
    body::Bytes,
    header::{CONTENT_TYPE, HOST, HeaderName, HeaderValue, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::net::TcpStream;

use super::error::SendError;
use crate::config::Secret;

/// So much of an answer is read, for the message of an error.
const ANSWER_LIMIT: usize = 64 << 10;
/// So much of an answer is shown.
const SHOWN: usize = 200;

/// Where a request goes.
pub(super) struct Target {
    uri: Uri,
    /// Scheme, host and port: what may be shown.
    pub(super) shown: String,
}

impl Target {
    /// Reads an address. `suffix` is added to its path.
    pub(super) fn parse(url: &Secret, suffix: &str) -> Result<Self, SendError> {
        // The parser's own message could repeat what was parsed.
        let wrong =
            || SendError::passing("the credential with the URL does not hold one that begins with http:// or https://");
        let text = url.reveal().trim();
        let (path, query) = text.split_once('?').map_or((text, None), |(path, query)| (path, Some(query)));
        let mut whole = format!("{}{suffix}", if suffix.is_empty() { path } else { path.trim_end_matches('/') });
        if let Some(query) = query {
            whole.push('?');
            whole.push_str(query);
        }
        let uri: Uri = whole.parse().map_err(|_| wrong())?;
        let scheme = uri.scheme_str().filter(|scheme| ["http", "https"].contains(scheme)).ok_or_else(wrong)?;
        if uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
            return Err(SendError::passing(
                "a user in the URL is not understood; use `header` and `header_credential`",
            ));
        }
        let host = uri.host().filter(|host| !host.is_empty()).ok_or_else(wrong)?;
        let shown = match uri.port_u16() {
            Some(port) => format!("{scheme}://{host}:{port}"),
            None => format!("{scheme}://{host}"),
        };
        Ok(Self { shown, uri })
    }

    fn is_tls(&self) -> bool {
        self.uri.scheme_str() == Some("https")
    }

    /// The host as it is connected to: an address of IPv6 has no brackets there.
    fn host(&self) -> &str {
        self.uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']')
    }
}

/// Sends a body, and takes an answer of 2xx for success.
///
/// # Errors
/// `Final` for an answer that says that this request is wrong; `Passing` for all else.
pub(super) async fn post(
    target: &Target,
    headers: Vec<(HeaderName, HeaderValue)>,
    content_type: &str,
    body: String,
    ca_file: Option<&Path>,
) -> Result<(), SendError> {
    let shown = &target.shown;
    let failed = |doing: &str, error: &dyn std::fmt::Display| SendError::passing(format!("{shown}: {doing}: {error}"));
    let port = target.uri.port_u16().unwrap_or(if target.is_tls() { 443 } else { 80 });
    let stream = TcpStream::connect((target.host(), port)).await.map_err(|error| failed("cannot connect", &error))?;
    let path = target.uri.path_and_query().map_or("/", |path| path.as_str());
    let authority = match target.uri.port() {
        Some(port) => format!("{}:{port}", target.uri.host().unwrap_or_default()),
        None => target.uri.host().unwrap_or_default().to_owned(),
    };
    let mut request = Request::post(path)
        .header(HOST, authority)
        .header(USER_AGENT, concat!("backupd/", env!("CARGO_PKG_VERSION")))
        .header(CONTENT_TYPE, content_type);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    // Its error could show a header.
    let request = request
        .body(Full::new(Bytes::from(body)))
        .map_err(|_| SendError::passing(format!("{shown}: the request cannot be made")))?;
    if target.is_tls() {
        let name = ServerName::try_from(target.host().to_owned()).map_err(|error| failed("wrong host", &error))?;
        let config = client_config(ca_file).await?;
        let stream = tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, stream)
            .await
            .map_err(|error| failed("TLS failed", &error))?;
        exchange(target, TokioIo::new(stream), request).await
    } else {
        exchange(target, TokioIo::new(stream), request).await
    }
}

async fn exchange<I>(target: &Target, io: I, request: Request<Full<Bytes>>) -> Result<(), SendError>
where
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
{
    let shown = &target.shown;
    let failed = |error: hyper::Error| SendError::passing(format!("{shown}: the request failed: {error}"));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.map_err(failed)?;
    let answered = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_LIMIT).collect().await;
        Ok((status, body.map(|body| body.to_bytes()).unwrap_or_default()))
    };
    tokio::pin!(answered);
    // The connection is driven here, so that it ends with this future.
    let (status, body) = tokio::select! {
        answer = &mut answered => answer?,
        end = connection => {
            end.map_err(failed)?;
            answered.await?
        }
    };
    judge(target, status, &body)
}

fn judge(target: &Target, status: StatusCode, body: &[u8]) -> Result<(), SendError> {
    if status.is_success() {
        return Ok(());
    }
    let mut message = format!("{} answered {status}", target.shown);
    let text = String::from_utf8_lossy(body);
    let text: String = text.trim().chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect();
    // An answer that repeats the address would bring the secret into the journal.
    let path = target.uri.path();
    let secret = path.len() > 1 && path.split('/').any(|part| part.len() > 3 && text.contains(part));
    if !text.is_empty() && !secret && target.uri.query().is_none() {
        message = format!("{message}: {text}");
    }

    // The others are put right by a person who mends the credential or the service, after which the request can go.
    if matches!(status.as_u16(), 400 | 405 | 406 | 410 | 411 | 413 | 415 | 422) {
        Err(SendError::last(message))
    } else {
        Err(SendError::passing(message))
    }
}

/// TLS that trusts what the system trusts, and the authorities of a file.
async fn client_config(ca_file: Option<&Path>) -> Result<rustls::ClientConfig, SendError> {
    let ca_file = ca_file.map(Path::to_owned);
    let roots = tokio::task::spawn_blocking(move || trusted(ca_file.as_deref()));
    let roots = roots.await.map_err(|error| SendError::passing(error.to_string()))??;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| SendError::passing(format!("TLS cannot be set up: {error}")))?;
    Ok(config.with_root_certificates(roots).with_no_client_auth())
}

fn trusted(ca_file: Option<&Path>) -> Result<rustls::RootCertStore, SendError> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(file) = ca_file {
        roots.add_parsable_certificates(read_certificates(file)?);
    }
    if roots.is_empty() {
        return Err(SendError::passing("no authority is trusted: install ca-certificates, or set `ca_file`"));
    }
    Ok(roots)
}

/// The certificates of a file (PEM), at least one.
pub(super) fn read_certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, SendError> {
    let failed = |error: &dyn std::fmt::Display| {
        SendError::passing(format!("cannot read the certificates in {}: {error}", file.display()))
    };
    let certificates: Vec<_> = CertificateDer::pem_file_iter(file)
        .and_then(Iterator::collect::<Result<_, _>>)
        .map_err(|error| failed(&error))?;
    if certificates.is_empty() {
        return Err(failed(&"there is none"));
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str, suffix: &str) -> Result<Target, SendError> {
        Target::parse(&Secret::new(url.to_owned()), suffix)
    }

    #[test]
    fn only_scheme_host_and_port_are_shown() {
        let target = parse("https://hooks.example.org:8443/T0/S3CR3T?token=t\n", "").unwrap();
        assert_eq!(target.shown, "https://hooks.example.org:8443");
        for bad in [
            "",
            "ftp://h/S3CR3T",
            "hooks/S3CR3T",
            "https:///S3CR3T",
            "https://u:S3CR3T@h/",
            "https://h/S3CR3T with space",
        ] {
            let error = parse(bad, "").err().unwrap();
            assert!(!error.to_string().contains("S3CR3T"), "{error}");
        }
    }

    #[test]
    fn a_suffix_goes_to_the_path() {
        let path = |url: &str| parse(url, "/fail").unwrap().uri.to_string();
        assert_eq!(path("https://hc.example/ping/id/"), "https://hc.example/ping/id/fail");
        assert_eq!(path("https://hc.example/ping/id?create=1"), "https://hc.example/ping/id/fail?create=1");
    }

    #[test]
    fn an_answer_that_repeats_the_address_is_not_shown() {
        let target = parse("http://h/hooks/S3CR3T", "").unwrap();
        let error = judge(&target, StatusCode::NOT_FOUND, b"no route for /hooks/S3CR3T").unwrap_err();
        assert_eq!(error.to_string(), "http://h answered 404 Not Found");
        let error = judge(&target, StatusCode::BAD_REQUEST, b"invalid_payload\n").unwrap_err();
        assert_eq!(error.to_string(), "http://h answered 400 Bad Request: invalid_payload");
    }
}
