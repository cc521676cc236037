//! Carries the ACME client's requests with the HTTP client that the secret managers use.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Full};
use instant_acme::{BodyWrapper, BytesResponse, Error, HttpClient};
use reqwest::Client;

use crate::call;

/// How long one answer may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// More than any answer of ACME has: a chain is some kilobytes.
const LONGEST_ANSWER_BYTES: usize = 1 << 20;

/// An HTTP client that believes the authorities of a directory.
pub(super) struct Transport(Client);

// === impl Transport ===

impl Transport {
    /// `ca` holds the authorities, PEM; those of the system when absent.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(super) fn new(ca: Option<&str>) -> Result<Self, String> {
        let mut builder = Client::builder()
            .timeout(TIMEOUT)
            .connect_timeout(TIMEOUT)
            .redirect(reqwest::redirect::Policy::none());
        if let Some(ca) = ca {
            let authorities = reqwest::Certificate::from_pem_bundle(ca.as_bytes())
                .map_err(|error| format!("ca: {error}"))?;
            builder = builder.tls_certs_only(authorities);
        }
        builder.build().map(Self).map_err(|error| error.to_string())
    }
}

impl HttpClient for Transport {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, Error>> + Send>> {
        let client = self.0.clone();
        Box::pin(async move {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let url = parts.uri.to_string();
            let sent = client.request(parts.method, url).headers(parts.headers).body(body);
            let answer = sent.send().await.map_err(|error| Error::Other(Box::new(error)))?;
            let mut response = http::Response::new(());
            *response.status_mut() = answer.status();
            *response.headers_mut() = answer.headers().clone();
            let body = call::body(answer, LONGEST_ANSWER_BYTES).await;
            let body = body.map_err(|error| Error::Other(Box::new(error)))?;
            let body = Full::new(Bytes::copy_from_slice(&body));
            Ok(BytesResponse::from(response.map(|()| body)))
        })
    }
}
