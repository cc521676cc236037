//! The command line, by the real binary: what it prints, and how it exits.

mod operate;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::support::authority::Authority;
use crate::support::gateway::Gateway;

const STANDALONE: &str = "deployment: {role: data_plane, role_data_plane: {config_provider: yaml}}";

/// A folder with `conf/config.yaml` and perhaps `conf/apisix.yaml`.
struct Home(TempDir);

/// What a command did.
#[derive(Debug)]
struct Done {
    code: i32,
    out: String,
    err: String,
}

// === impl Home ===

impl Home {
    fn empty() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn with(config: &str) -> Self {
        let home = Self::empty();
        home.write("config.yaml", config);
        home
    }

    /// A standalone node with the resources `yaml`.
    fn standalone(yaml: &str) -> Self {
        let home = Self::with(STANDALONE);
        home.write("apisix.yaml", &format!("{yaml}\n#END\n"));
        home
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path("conf")).unwrap();
        fs::write(self.path("conf").join(name), text).unwrap();
    }

    /// Runs `sluice` here, where `conf/config.yaml` is found without being named.
    fn run(&self, arguments: &[&str]) -> Done {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
        let output = command.args(arguments).current_dir(self.0.path()).output();
        Done::from(output.unwrap())
    }
}

// === impl Done ===

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Done {
    /// A failure that tells each of `lines`, a line of stderr being what holds all its parts.
    #[track_caller]
    fn fails(&self, lines: &[&[&str]]) {
        assert_eq!(self.code, 1, "{self:?}");
        for parts in lines {
            let told = |line: &str| parts.iter().all(|part| line.contains(part));
            assert!(self.err.lines().any(told), "{parts:?} in\n{}", self.err);
        }
    }
}

#[test]
fn says_its_version() {
    let done = Home::empty().run(&["version"]);
    let version = format!("sluice {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!((done.code, done.out), (0, version));
}

#[test]
fn refuses_verbs_and_options_that_it_does_not_know() {
    for arguments in [&["frobnicate"][..], &["test", "--frobnicate"], &["test", "-c"], &[]] {
        let done = Home::empty().run(arguments);
        assert_eq!(done.code, 2, "{arguments:?}: {done:?}");
        assert!(done.out.is_empty() && done.err.contains("--help"), "{done:?}");
    }
}

#[test]
fn finds_a_good_file_good() {
    let home = Home::with(include_str!("../conf/config.yaml"));
    let done = home.run(&["test"]);
    assert_eq!((done.code, done.out.as_str()), (0, "conf/config.yaml: ok\n"), "{}", done.err);
    assert_eq!(done.err, "");
    // The option may stand on either side of the verb, and the file anywhere.
    let file = home.path("conf/config.yaml").display().to_string();
    for arguments in [["-c", &file, "test"], ["test", "--config", &file]] {
        let done = Home::empty().run(&arguments);
        assert_eq!((done.code, done.out), (0, format!("{file}: ok\n")));
    }
}

#[test]
fn names_a_file_that_is_not_there() {
    Home::empty().run(&["test"]).fails(&[&["conf/config.yaml: ", "No such file"]]);
    Home::empty().run(&["start"]).fails(&[&["conf/config.yaml: ", "No such file"]]);
}

#[test]
fn names_the_line_of_broken_yaml() {
    let done = Home::with("apisix:\n  node_listen: [9080\n").run(&["test"]);
    done.fails(&[&["conf/config.yaml: ", "line"]]);
    assert_eq!(done.out, "");
}

#[test]
fn tells_every_wrong_value_with_path_value_and_expectation() {
    let done = Home::with(
        "apisix: {enable_http2: 7, control: {port: 99999}}\n\
         deployment: {role: boss}",
    )
    .run(&["test"]);
    done.fails(&[
        &["conf/config.yaml: apisix.enable_http2: expected ", "got 7"],
        &["conf/config.yaml: apisix.control.port: expected ", "65535", "got 99999"],
        &["conf/config.yaml: deployment.role: expected ", "data_plane", "boss"],
    ]);
    // Each on a line of its own that begins with the file; then one that sums up.
    let (last, others) = {
        let mut lines: Vec<&str> = done.err.lines().collect();
        (lines.pop().unwrap(), lines)
    };
    assert_eq!(last, "sluice: conf/config.yaml cannot be used");
    assert!(others.iter().all(|line| line.starts_with("conf/config.yaml: ")), "{others:?}");
    assert_eq!(others.len(), 3, "{others:?}");
}

#[test]
fn warns_of_unknown_keys_and_goes_on() {
    let done = Home::with(
        "apisix: {node_lisen: 9080}\n\
         deployment: {role_traditional: {config_provider: embedded}}",
    )
    .run(&["test"]);
    assert_eq!((done.code, done.out.as_str()), (0, "conf/config.yaml: ok\n"), "{}", done.err);
    assert!(done.err.contains("conf/config.yaml: warning: apisix.node_lisen: "), "{}", done.err);
}

#[test]
fn warns_of_ciphers_that_it_does_not_have_and_refuses_to_be_left_without() {
    let with = |ciphers: &str| {
        let config = format!(
            "apisix: {{ssl: {{ssl_ciphers: {ciphers}}}}}\n\
             deployment: {{role_traditional: {{config_provider: embedded}}}}"
        );
        Home::with(&config).run(&["test"])
    };
    let done = with("ECDHE-RSA-AES128-GCM-SHA256:RC4-MD5:AES128-SHA");
    assert_eq!(done.code, 0, "{done:?}");
    let told = "conf/config.yaml: warning: apisix.ssl.ssl_ciphers: skipped";
    assert!(done.err.contains(told) && done.err.contains("RC4-MD5, AES128-SHA"), "{}", done.err);
    let done = with("RC4-MD5");
    assert_ne!(done.code, 0, "{done:?}");
    assert!(done.err.contains("apisix.ssl.ssl_ciphers is \"RC4-MD5\", expected"), "{}", done.err);
}

#[test]
fn checks_the_resources_of_a_standalone_node() {
    let (cert, key) = Authority::new("ROOT").issue(&["a.com"]);
    let ssl = serde_json::json!([{ "id": "1", "sni": "a.com", "cert": cert, "key": key }]);
    let done = Home::standalone(&format!(
        "upstreams: [{{id: u, nodes: {{'127.0.0.1:1980': 1}}}}]\n\
         routes: [{{id: r, uri: /a, upstream_id: u}}]\n\
         ssls: {ssl}"
    ))
    .run(&["test"]);
    assert_eq!(done.code, 0, "{done:?}");
    let lines: Vec<&str> = done.out.lines().collect();
    assert_eq!(lines[0], "conf/config.yaml: ok");
    assert!(lines[1].contains("conf/apisix.yaml: ok (3 resources)"), "{lines:?}");
}

#[test]
fn tells_every_broken_resource_with_field_value_and_expectation() {
    let done = Home::standalone(
        "routes:\n\
         - {id: bad, uri: 5, plugins: {}}\n\
         - {id: lost, uri: /a, upstream_id: nowhere}\n\
         - {id: odd, uri: /b, plugins: {limit-count: {count: x, time_window: 60}}}\n\
         - {id: good, uri: /c, plugins: {}}",
    )
    .run(&["test"]);
    let file = "conf/apisix.yaml: ";
    done.fails(&[
        &[file, "routes/bad: ", "\"uri\"", "expected string", "got number"],
        &[file, "routes/lost: ", "\"upstream_id\"", "expected ", "got nowhere"],
        &[file, "routes/odd: ", "plugin limit-count err: property \"count\"", "expected ", "got x"],
    ]);
    assert!(!done.err.contains("routes/good"), "{}", done.err);
    assert_eq!(done.out, "conf/config.yaml: ok\n");
}

#[test]
fn tells_that_a_certificate_does_not_match_its_key_and_shows_neither() {
    let authority = Authority::new("ROOT");
    let (cert, _) = authority.issue(&["a.com"]);
    let (_, key) = authority.issue(&["a.com"]);
    let ssl = serde_json::json!([{ "id": "mixed", "sni": "a.com", "cert": cert, "key": key }]);
    let done = Home::standalone(&format!("ssls: {ssl}")).run(&["test"]);
    done.fails(&[&["conf/apisix.yaml: ssls/mixed: ", "match"]]);
    assert!(!done.err.contains("PRIVATE"), "{}", done.err);
}

#[test]
fn fetches_no_secret_for_a_check() {
    let done = Home::standalone(
        "secrets: [{id: vault/1, uri: 'http://127.0.0.1:9', prefix: kv, token: t}]\n\
         ssls: [{id: 1, sni: a.com, cert: '$secret://vault/1/s/cert', key: '$secret://vault/1/s/key'}]",
    )
    .run(&["test"]);
    assert_eq!(done.code, 0, "{done:?}");
}

#[test]
fn shows_nothing_of_a_resource_file_that_is_not_yaml() {
    let home =
        Home::standalone("consumers:\n- {username: a, plugins: {key-auth: {key: planted}}\n");
    let done = home.run(&["test"]);
    done.fails(&[&["conf/apisix.yaml: ", "line"]]);
    assert!(!done.err.contains("planted"), "{}", done.err);
    let home = Home::with(STANDALONE);
    home.run(&["test"]).fails(&[&["conf/apisix.yaml: ", "No such file"]]);
    home.write("apisix.yaml", "routes: []\n");
    home.run(&["test"]).fails(&[&["conf/apisix.yaml: ", "#END"]]);
}

#[test]
fn makes_what_is_missing_and_overwrites_nothing() {
    let home = Home::empty();
    let done = home.run(&["init"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.out.contains("conf/config.yaml: written"), "{done:?}");
    let text = fs::read_to_string(home.path("conf/config.yaml")).unwrap();
    assert_eq!(text, include_str!("../conf/config.yaml"));
    assert!(home.path("data").is_dir());
    assert_eq!(home.run(&["test"]).code, 0);

    let own = "sluice: {data_dir: elsewhere}\n\
        deployment: {role_traditional: {config_provider: embedded}}";
    home.write("config.yaml", own);
    let done = home.run(&["init"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.out.contains("left as it is"), "{done:?}");
    assert_eq!(fs::read_to_string(home.path("conf/config.yaml")).unwrap(), own);
    assert!(home.path("elsewhere").is_dir());
}

#[test]
fn says_that_nothing_runs_and_by_which_file() {
    let home = Home::empty();
    home.run(&["init"]);
    let pid_file = home.path("data/sluice.pid").display().to_string();
    for verb in ["stop", "quit", "reload"] {
        home.run(&[verb]).fails(&[&["no node runs", &pid_file]]);
    }
    // A number that a crash left behind names nobody, least of all this process.
    fs::write(&pid_file, std::process::id().to_string()).unwrap();
    for verb in ["stop", "quit", "reload"] {
        home.run(&[verb]).fails(&[&["no node runs", &pid_file]]);
    }
}

#[tokio::test]
async fn tells_a_running_node_to_reload_and_to_end() {
    for verb in ["stop", "quit"] {
        let mut gateway = Gateway::start().await;
        let file = gateway.config_file();
        let told = |verb: &str| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
            Done::from(command.args([verb, "-c"]).arg(&file).output().unwrap())
        };
        let pid = gateway.pid().to_string();
        told("start").fails(&[&["already runs", &pid, "sluice.pid"]]);
        let done = told("reload");
        assert_eq!((done.code, done.out.lines().count()), (0, 1), "{done:?}");
        assert_eq!(gateway.status("/status/ready").await.0, 200);
        let done = told(verb);
        assert_eq!((done.code, done.out), (0, format!("process {pid} has ended\n")));
        assert!(gateway.ended().await.success());
        told(verb).fails(&[&["no node runs"]]);
    }
}
