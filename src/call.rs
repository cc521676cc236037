//! Calls of the node's own to other servers: why there is no answer, in plain words, and answers
//! of a bounded length that do not stay in memory.

use std::error::Error;

use zeroize::{Zeroize, Zeroizing};

/// Room for an ordinary answer.
const ORDINARY_BYTES: usize = 16 << 10;

/// Why an answer did not come whole.
#[derive(Debug, thiserror::Error)]
pub enum Unread {
    #[error("{}", reason(.0))]
    Failed(#[from] reqwest::Error),
    #[error("its answer is longer than {0} bytes")]
    TooLong(usize),
}

/// The body of an answer, of `most` bytes at most; overwritten when it is let go.
///
/// # Errors
/// It broke off, or is longer: the rest of it is not read then.
pub async fn body(
    mut response: reqwest::Response,
    most: usize,
) -> Result<Zeroizing<Vec<u8>>, Unread> {
    // Made large enough at once: a vector that grows leaves copies behind.
    let mut body = Zeroizing::new(Vec::with_capacity(ORDINARY_BYTES.min(most)));
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > most {
            return Err(Unread::TooLong(most));
        }
        body.extend_from_slice(&chunk);
        if let Ok(mut own) = chunk.try_into_mut() {
            own.as_mut().zeroize();
        }
    }
    Ok(body)
}

/// Why a call failed, without its URL.
pub fn reason(error: &reqwest::Error) -> String {
    if error.is_timeout() { "timed out".to_owned() } else { innermost(error) }
}

/// The cause of all causes: what stands around it says no more than that something failed.
pub fn innermost(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    use super::*;

    /// What a server answers with 100 bytes, or with `head` and nothing more.
    async fn answered(head: &str) -> reqwest::Response {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let answer = format!("HTTP/1.1 200 OK\r\n{head}\r\n\r\n{}", "x".repeat(100));
        tokio::spawn(async move {
            let (mut client, _) = listener.accept().await.unwrap();
            let _ = client.read(&mut [0; 1024]).await.unwrap();
            client.write_all(answer.as_bytes()).await.unwrap();
        });
        reqwest::Client::builder().no_proxy().build().unwrap().get(url).send().await.unwrap()
    }

    #[tokio::test]
    async fn reads_no_more_than_it_may() {
        let whole = answered("Content-Length: 100").await;
        assert_eq!(body(whole, 100).await.unwrap().len(), 100);
        let said = body(answered("Connection: close").await, 99).await.unwrap_err().to_string();
        assert_eq!(said, "its answer is longer than 99 bytes");
        let cut = body(answered("Content-Length: 101").await, 1000).await.unwrap_err();
        assert!(matches!(cut, Unread::Failed(_)), "{cut}");
    }
}
