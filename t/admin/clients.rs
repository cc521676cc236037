//! Clients that others have written, and everything that the OpenAPI document allows.

use std::path::Path;
use std::process::{Command, Output};

use crate::support::gateway::{ADMIN_KEY, Gateway};
use crate::support::{PATIENCE, client};

/// Examples of each operation; with more the run takes longer than it tells.
const EXAMPLES: &str = "10";

async fn run(mut command: Command) -> Output {
    let done = tokio::task::spawn_blocking(move || command.output().unwrap());
    done.await.unwrap()
}

#[track_caller]
fn assert_good(done: &Output, gateway: &Gateway) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&done.stdout), text(&done.stderr));
    assert!(done.status.success(), "{out}\n{err}");
    assert!(!gateway.logs().contains("panicked"), "{}", gateway.logs());
}

fn base(gateway: &Gateway) -> String {
    format!("http://127.0.0.1:{}/", gateway.ports().admin)
}

#[tokio::test]
async fn the_python_client_of_apisix_finds_what_it_writes() {
    let gateway = Gateway::start().await;
    let mut command = Command::new(client("python"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("t/admin/client.py");
    command.arg(script).args([&base(&gateway), ADMIN_KEY]);
    assert_good(&run(command).await, &gateway);
}

/// Requests that fit the document and requests that do not, all by one seed: no answer may have a
/// status, a type or a shape that the document does not tell.
#[tokio::test]
async fn answers_as_its_openapi_document_says() {
    let gateway = Gateway::start().await;
    // It would wait for ten seconds for the document, and not be told to be patient.
    let (_, document) = gateway.admin("GET", "/openapi.json", None).await;
    std::fs::write(gateway.dir().join("openapi.json"), document.to_string()).unwrap();
    let mut command = Command::new(client("schemathesis"));
    command
        .current_dir(gateway.dir())
        .args(["--no-color", "run", "openapi.json", "--url", &base(&gateway)])
        .args(["--header", &format!("X-API-KEY: {ADMIN_KEY}")])
        .args(["--phases", "examples,fuzzing", "--max-examples", EXAMPLES, "--seed", "1"])
        .args([
            "--checks",
            "status_code_conformance,content_type_conformance,response_schema_conformance,\
             response_headers_conformance",
        ])
        .args(["--generation-database", "none", "--no-shrink", "--continue-on-failure"])
        .args(["--warnings", "off", "--request-timeout", &PATIENCE.as_secs().to_string()]);
    assert_good(&run(command).await, &gateway);
}
