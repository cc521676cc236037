//! The operator verbs against a running node.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use super::Done;
use crate::support::gateway::{ADMIN_KEY, Gateway};

/// Runs `sluice` with the node's config file, where it finds address and key.
fn run(gateway: &Gateway, arguments: &[&str]) -> Done {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.args(arguments).arg("-c").arg(gateway.config_file());
    Done::from(command.output().unwrap())
}

/// Differences, and that there are some.
#[track_caller]
fn differs(gateway: &Gateway, arguments: &[&str]) -> String {
    let done = run(gateway, arguments);
    assert_eq!(done.code, 1, "{done:?}");
    done.out
}

#[track_caller]
fn good(gateway: &Gateway, arguments: &[&str]) -> String {
    let done = run(gateway, arguments);
    assert_eq!(done.code, 0, "{done:?}");
    done.out
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path.display().to_string()
}

const FILE: &str = "
routes:
  - id: a
    uri: /a
    upstream_id: u
    labels: {team: blue}
  - {id: b, uri: /b, upstream_id: u, labels: {team: blue}}
upstreams:
  - id: u
    name: origin
    nodes: {'127.0.0.1:9': 1}
    labels: {team: blue}
consumers:
  - username: jack
    plugins: {key-auth: {key: planted}}
#END
";

#[tokio::test(flavor = "multi_thread")]
async fn applies_files_shows_what_is_there_and_prunes() {
    let gateway = Gateway::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "all.yaml", FILE);
    let told = differs(&gateway, &["diff", "-f", &file]);
    assert!(told.contains("+ routes/a") && told.contains("4 would change"), "{told}");
    assert_eq!(gateway.admin("GET", "/routes", None).await.1["total"], 0, "a diff writes nothing");

    let told = good(&gateway, &["apply", "-f", &file, "--wait"]);
    assert!(told.contains("routes/a: created") && told.contains("4 changed"), "{told}");
    assert_eq!(gateway.get("/a").await.status(), 502);
    let revisions = gateway.admin("GET", "/routes/a", None).await.1["modifiedIndex"].clone();
    let told = good(&gateway, &["apply", "-f", &file]);
    assert_eq!(told, "0 changed, 4 as they were\n");
    good(&gateway, &["diff", "-f", &file]);
    assert_eq!(run(&gateway, &["diff", "-f", "/nothing.yaml"]).code, 2);
    assert_eq!(gateway.admin("GET", "/routes/a", None).await.1["modifiedIndex"], revisions);

    let table = good(&gateway, &["get", "routes"]);
    let mut lines = table.lines();
    assert!(lines.next().unwrap().starts_with("ID  NAME  WHAT"), "{table}");
    let line = lines.next().unwrap();
    assert!(line.contains("/a -> upstreams/u") && line.contains("team=blue"), "{table}");
    let one: Value =
        serde_json::from_str(&good(&gateway, &["get", "upstream", "u", "-o", "json"])).unwrap();
    assert_eq!(one["name"], "origin");
    let yaml = good(&gateway, &["get", "upstreams", "-o", "yaml"]);
    assert!(yaml.contains("name: origin\n"), "{yaml}");
    run(&gateway, &["get", "routes", "none"]).fails(&[&["routes/none", "no such resource"]]);
    run(&gateway, &["get", "rotues"]).fails(&[&["rotues", "routes", "upstreams"]]);

    // A route less, another URI, another key; what bears no label stays.
    let changed = FILE
        .replace("  - {id: b, uri: /b, upstream_id: u, labels: {team: blue}}\n", "")
        .replace("uri: /a", "uri: /new")
        .replace("planted", "planted-2");
    let file = write(folder.path(), "all.yaml", &changed);
    gateway.put_route("foreign", json!({ "uri": "/f", "plugins": {}, "upstream_id": "u" })).await;
    let arguments = ["-f", &file, "--prune", "-l", "team=blue"];
    let told = differs(&gateway, &[&["diff"], &arguments[..]].concat());
    assert!(told.contains("/uri: \"/a\" -> \"/new\"") && told.contains("- routes/b"), "{told}");
    assert!(told.contains("another than before") && !told.contains("planted"), "{told}");
    good(&gateway, &[&["apply"], &arguments[..]].concat());
    let ids: Vec<String> = gateway.admin("GET", "/routes", None).await.1["list"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| entry["value"]["id"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(ids, ["a", "foreign"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_file_and_place_of_everything_that_is_wrong() {
    let gateway = Gateway::start().await;
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "good.json", r#"{"routes": [{"id": "g", "uri": "/", "plugins": {}}]}"#);
    write(
        folder.path(),
        "bad.yaml",
        "routes:\n- {id: x, uri: 5}\n- {id: z, uri: /, upstream_id: n}\n",
    );
    let path = folder.path().display().to_string();
    let done = run(&gateway, &["apply", "-f", &path]);
    done.fails(&[
        &["bad.yaml: routes[0]", "routes/x", "uri", "expected string"],
        &["bad.yaml: routes[1]", "upstream_id"],
        &["nothing is changed"],
    ]);
    assert_eq!(gateway.admin("GET", "/routes", None).await.1["total"], 0);
    let file = write(folder.path(), "nameless.yaml", "rotues: []\nroutes: [{uri: /}]\nssls: 5\n");
    run(&gateway, &["apply", "-f", &file]).fails(&[
        &["nameless.yaml: rotues", "expected one of"],
        &["nameless.yaml: routes[0]", "id"],
        &["nameless.yaml: ssls", "a list"],
    ]);
    run(&gateway, &["apply", "-f", "/nowhere.yaml"]).fails(&[&["/nowhere.yaml"]]);
    let done = run(&gateway, &["apply", "-f", &file, "--prune"]);
    assert_eq!(done.code, 2, "{done:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn applies_more_than_a_transaction_holds_and_moves_it_all_to_another_gateway() {
    let (one, two) = tokio::join!(Gateway::start(), Gateway::start());
    let folder = tempfile::tempdir().unwrap();
    let routes: Vec<Value> = (0..230)
        .map(|n| json!({ "id": format!("r{n:03}"), "uri": format!("/{n}"), "upstream_id": "u" }))
        .collect();
    let upstreams = json!([{ "id": "u", "nodes": { "127.0.0.1:9": 1 } }]);
    let all = json!({ "routes": routes, "upstreams": upstreams,
        "consumers": [{ "username": "jack", "plugins": { "key-auth": { "key": "planted" } } },
            { "id": "jack/credentials/c", "plugins": { "key-auth": { "key": "planted-too" } } }],
        "plugin_metadata": [{ "id": "limit-count", "limit_header": "X-L" }],
        "global_rules": [{ "id": "g", "plugins": { "prometheus": {} } }],
        "secrets": [{ "id": "vault/v", "uri": "http://127.0.0.1:9", "prefix": "kv", "token": "t" }] });
    let file = write(folder.path(), "many.json", &all.to_string());
    let told = good(&one, &["apply", "-f", &file]);
    assert!(told.contains("236 changed in 3 transactions"), "{told}");

    let dumped = good(&one, &["dump"]);
    assert!(dumped.ends_with("#END\n") && !dumped.contains("create_time"), "{dumped}");
    let file = write(folder.path(), "dump.yaml", &dumped);
    assert_eq!(good(&one, &["apply", "-f", &file]), "0 changed, 236 as they were\n");
    good(&two, &["apply", "-f", &file]);
    assert_eq!(good(&two, &["dump"]), dumped);
    assert!(good(&two, &["get", "credentials"]).contains("jack/credentials/c"));
    // Standalone mode takes it too, and a node that says that it is ready lets clients in.
    let third = Gateway::builder().standalone(&dumped).start().await;
    assert_eq!(third.get("/7").await.status(), 502);
}

#[tokio::test(flavor = "multi_thread")]
async fn finds_server_and_key_by_flag_and_environment() {
    let gateway = Gateway::start().await;
    let url = format!("http://127.0.0.1:{}", gateway.ports().admin);
    let run = |arguments: &[&str], env: &[(&str, &str)]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        command.args(arguments).args(["-c", "/nowhere/config.yaml"]);
        command.envs(env.iter().copied());
        Done::from(command.output().unwrap())
    };
    let get = ["get", "routes"];
    let flags = ["get", "routes", "--server", &url, "--key", ADMIN_KEY];
    assert_eq!(run(&flags, &[]).code, 0);
    let env = [("SLUICE_SERVER", url.as_str()), ("SLUICE_ADMIN_KEY", ADMIN_KEY)];
    assert_eq!(run(&get, &env).code, 0);
    run(&get, &[]).fails(&[&["/nowhere/config.yaml"], &["--server", "SLUICE_SERVER"]]);
    let wrong = [("SLUICE_SERVER", url.as_str()), ("SLUICE_ADMIN_KEY", "wrong")];
    run(&get, &wrong).fails(&[&["401", "wrong apikey"]]);
    run(&["get", "routes", "--server", "ftp://x", "--key", "k"], &[])
        .fails(&[&["--server", "http"]]);
    let dead = format!("http://127.0.0.1:{}", crate::support::free_port());
    run(&["get", "routes", "--server", &dead, "--key", "k"], &[])
        .fails(&[&["no answer from", &dead]]);
}

#[tokio::test(flavor = "multi_thread")]
async fn encrypts_anew_after_a_change_of_the_keyring() {
    let mut gateway = Gateway::builder()
        .config(|config| {
            config["apisix"]["data_encryption"] = json!({ "keyring": ["old-old-old-old-"] });
        })
        .start()
        .await;
    let jack = json!({ "username": "jack", "plugins": { "key-auth": { "key": "planted" } } });
    gateway.put("/consumers", jack).await;
    let keyring = |keys: Value| {
        let mut config = gateway.read_config();
        config["apisix"]["data_encryption"]["keyring"] = keys;
        gateway.write_config(&config);
    };
    keyring(json!(["new-new-new-new-", "old-old-old-old-"]));
    gateway.restart().await;
    let told = good(&gateway, &["reseal"]);
    assert_eq!(told, "encrypted anew: 2\n", "the consumer and its version");
    let mut config = gateway.read_config();
    config["apisix"]["data_encryption"]["keyring"] = json!(["new-new-new-new-"]);
    gateway.write_config(&config);
    gateway.restart().await;
    let (_, jack) = gateway.admin("GET", "/consumers/jack", None).await;
    assert_eq!(jack["value"]["plugins"]["key-auth"]["key"], "planted");
    assert_eq!(good(&gateway, &["reseal"]), "encrypted anew: 0\n");
}

const ADC: &str = "
services:
  - name: shop
    upstream: {type: roundrobin, nodes: [{host: 127.0.0.1, port: 9, weight: 1}]}
    routes:
      - {name: all, uris: [/shop/*], methods: [GET]}
consumers:
  - username: jack
    credentials:
      - {name: first, type: key-auth, config: {key: planted}}
global_rules:
  prometheus: {}
plugin_metadata:
  limit-count: {limit_header: X-Limit}
";

#[tokio::test(flavor = "multi_thread")]
async fn applies_files_of_adc() {
    let gateway = Gateway::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = write(folder.path(), "adc.yaml", ADC);
    let told = good(&gateway, &["apply", "-f", &file, "--wait"]);
    assert!(told.contains("6 changed"), "{told}");
    assert_eq!(gateway.get("/shop/1").await.status(), 502);
    good(&gateway, &["diff", "-f", &file]);
}

#[tokio::test(flavor = "multi_thread")]
async fn explains_a_request_as_the_node_then_answers_it() {
    let gateway = Gateway::start().await;
    let folder = tempfile::tempdir().unwrap();
    let file = write(
        folder.path(),
        "all.yaml",
        "
routes:
  - {id: new, uri: '/shop/*', priority: 1, vars: [[http_x_beta, '==', 'yes']], upstream_id: u}
  - id: old
    uri: /shop/*
    upstream_id: u
    filter_func: 'function(vars) return vars.arg_no == nil end'
    plugins: {key-auth: {}}
upstreams:
  - {id: u, nodes: {'127.0.0.1:9': 1}}
consumers:
  - {username: jack, plugins: {key-auth: {key: planted}}}
#END
",
    );
    good(&gateway, &["apply", "-f", &file, "--wait"]);
    let told = good(&gateway, &["explain", "http://a.com/x/../shop/1", "--consumer", "jack"]);
    for line in [
        "request   GET host a.com path /shop/1",
        "refused   routes/new /shop/* by vars: [\"http_x_beta\",\"==\",\"yes\"] does not hold: http_x_beta has no value",
        "route     routes/old uri /shop/* priority 0",
        "plugin    key-auth of routes/old in rewrite",
        "node      127.0.0.1:9 (127.0.0.1) 100.0 % of priority 0, health unknown",
    ] {
        assert!(told.contains(line), "{line}\nis not in\n{told}");
    }
    // The node agrees: the one asks for a key, the other has none to ask for.
    assert_eq!(gateway.get("/shop/1").await.status(), 401);
    let told = good(&gateway, &["explain", "/shop/1", "-H", "X-Beta: yes", "-o", "json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["route"]["id"], "new");
    let told = good(&gateway, &["explain", "/shop/1?no=1"]);
    assert!(told.contains("by filter_func: ") && told.contains("answer    404"), "{told}");
    // A body is told as curl tells one, and judged as if it came with the request.
    let file = write(folder.path(), "order.json", r#"{"items": [{"kind": "book"}]}"#);
    let more = json!({ "uri": "/order", "methods": ["POST"], "upstream_id": "u",
        "vars": [["OR", ["post_arg_kind", "==", "pen"], ["post_arg.items[*].kind", "has", "book"]]] });
    gateway.put_route("order", more).await;
    let order = ["explain", "/order", "-d"];
    let told = good(&gateway, &[&order[..], &["kind=pen"]].concat());
    assert!(told.contains("request   POST ") && told.contains("route     routes/order"), "{told}");
    let file = format!("@{file}");
    let kind = "Content-Type: application/json";
    let told = good(&gateway, &[&order[..], &[&file, "-H", kind]].concat());
    assert!(told.contains("route     routes/order"), "{told}");
    let told = good(&gateway, &[&order[..], &["kind=ink"]].concat());
    assert!(told.contains("by vars: ") && told.contains("answer    404"), "{told}");
    let told = good(&gateway, &["explain", "/order", "-X", "POST"]);
    assert!(told.contains("the request's body, which is not told"), "{told}");
    let done = run(&gateway, &[&order[..], &["@/none/such"]].concat());
    assert!(done.code == 1 && done.err.contains("--data: /none/such"), "{done:?}");
    let done = run(&gateway, &["explain", "shop"]);
    assert!(done.code == 1 && done.err.contains("uri: expected a path such as"), "{done:?}");
}
