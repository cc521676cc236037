//! AWS Secrets Manager, by a stand-in that checks signatures: APISIX `t/secret/aws.t`.

use std::time::Duration;

use serde_json::{Value, json};
use sluice::resource;
use sluice::secret::{SecretError, State};

use super::Node;
use crate::support::clouds::Clouds;
use crate::support::eventually;

/// The secret access key, which must not be seen anywhere.
const KEY: &str = "planted+access/key";
const TOKEN: &str = "planted-session-token";

fn node(written: Value) -> Node {
    let node = Node::lasting(Duration::from_secs(600), Duration::from_secs(1));
    let aws = resource::Secret::Aws(serde_json::from_value(written).unwrap());
    assert!(!format!("{aws:?}").contains("planted"), "{aws:?}");
    node.secrets.set_manager("aws/1", &aws);
    node
}

/// What is said of a reference that cannot be read.
async fn said(node: &Node, text: &str) -> (SecretError, String) {
    let error = node.resolve(text).await.unwrap_err();
    let said = error.to_string();
    let all = format!("{said} {error:?} {:?}", node.secrets.status());
    assert!(!all.contains("planted"), "{all}");
    (error, said)
}

#[tokio::test]
async fn reads_texts_and_fields_and_lets_the_longest_name_win() {
    let clouds = Clouds::start(KEY).await;
    clouds.put("apisix-mysql", "secret");
    clouds.put("apisix-key", r#"{"jack": "value", "number": 7, "none": null}"#);
    clouds.put("john/secret", r#"{"john-key-auth": "value"}"#);
    clouds.put("apisix/full/path", "full-value");
    clouds.put("apisix", r#"{"full/path": "shorter", "deep/field": "deep"}"#);
    let node = node(clouds.aws(KEY));
    for (path, value) in [
        ("apisix-mysql", "secret"),
        ("apisix-key/jack", "value"),
        ("apisix-key/number", "7"),
        ("john/secret/john-key-auth", "value"),
        ("apisix/full/path", "full-value"),
        ("apisix/deep/field", "deep"),
    ] {
        assert_eq!(node.resolve(&format!("$secret://aws/1/{path}")).await.unwrap(), value);
    }
    for path in ["apisix-key/other", "apisix-key/none"] {
        let (error, text) = said(&node, &format!("$secret://aws/1/{path}")).await;
        assert!(matches!(error, SecretError::NoField { .. }), "{text}");
        assert!(text.contains("apisix-key"), "{text}");
    }
    let (error, text) = said(&node, "$secret://aws/1/apisix-mysql/jack").await;
    assert!(matches!(error, SecretError::NoFields { .. }), "{text}");
    assert!(text.contains("apisix-mysql") && text.contains("jack"), "{text}");
}

#[tokio::test]
async fn signs_the_session_token_and_takes_credentials_from_the_environment() {
    let home = std::env::var("HOME").unwrap();
    let clouds = Clouds::start(&home).await;
    clouds.put("a", "secret");
    clouds.change(|state| state["aws"]["token"] = json!(TOKEN));
    let mut written = clouds.aws("$ENV://HOME");
    written["session_token"] = json!(TOKEN);
    assert_eq!(node(written.clone()).resolve("$secret://aws/1/a").await.unwrap(), "secret");

    written["secret_access_key"] = json!("$env://SLUICE_NOT_SET");
    let (error, text) = said(&node(written.clone()), "$secret://aws/1/a").await;
    assert!(matches!(error, SecretError::NoVariable(_)), "{text}");

    // AWS repeats the token where the signature is wrong; we do not.
    written["secret_access_key"] = json!("wrong");
    let (error, text) = said(&node(written.clone()), "$secret://aws/1/a").await;
    assert!(matches!(error, SecretError::Refused { status: 400, .. }), "{text}");
    assert!(text.contains("InvalidSignatureException"), "{text}");
    assert!(text.contains(&clouds.url()), "{text}");
}

#[tokio::test]
async fn says_what_is_missing_and_what_is_no_text() {
    let clouds = Clouds::start(KEY).await;
    clouds.change(|state| state["binary"] = json!(["bytes"]));
    let node = node(clouds.aws(KEY));
    let (_, text) = said(&node, "$secret://aws/1/not/there").await;
    assert!(text.contains("ResourceNotFoundException") && text.contains("not/there"), "{text}");
    let (_, text) = said(&node, "$secret://aws/1/bytes").await;
    assert!(text.contains("SecretBinary"), "{text}");

    let nowhere = format!("http://127.0.0.1:{}", crate::support::free_port());
    let mut written = clouds.aws(KEY);
    written["endpoint_url"] = json!(nowhere);
    let (error, text) = said(&super::aws::node(written), "$secret://aws/1/a").await;
    assert!(matches!(error, SecretError::Unreachable { .. }), "{text}");
    assert!(text.contains(&nowhere) && text.contains("refused"), "{text}");
}

#[tokio::test]
async fn throttling_passes_and_a_wrong_clock_is_explained() {
    let clouds = Clouds::start(KEY).await;
    clouds.put("a", "secret");
    clouds.change(|state| state["fail"] = json!("ThrottlingException"));
    let node = node(clouds.aws(KEY));
    let (error, text) = said(&node, "$secret://aws/1/a").await;
    assert!(matches!(error, SecretError::Busy { .. }), "{text}");
    assert!(text.contains("ThrottlingException"), "{text}");
    clouds.change(|state| state["fail"] = Value::Null);
    eventually("it is read", async || {
        node.secrets.status().iter().all(|status| status.state == State::Ready)
    })
    .await;

    clouds.change(|state| state["clock"] = json!(900));
    let (_, text) = said(&super::aws::node(clouds.aws(KEY)), "$secret://aws/1/a").await;
    assert!(text.contains("Signature expired") && text.contains("behind"), "{text}");
}
