//! The config file on disk: what `Config::load` finds around it.

use std::fs;

use sluice::config::{Config, LoadError, Provider};

/// Writes `text` to `conf/config.yaml` in a folder of its own and loads it.
fn load(text: &str) -> (tempfile::TempDir, Result<sluice::config::Loaded, LoadError>) {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("conf/config.yaml");
    fs::create_dir(home.path().join("conf")).unwrap();
    fs::write(&file, text).unwrap();
    let loaded = Config::load(&file);
    (home, loaded)
}

#[test]
fn the_home_is_the_folder_that_holds_conf() {
    let (home, loaded) = load("deployment: {role_traditional: {config_provider: embedded}}");
    let config = loaded.unwrap().config;
    assert_eq!(config.deployment.provider, Provider::Embedded);
    assert_eq!(config.home, home.path());
    assert_eq!(config.sluice.data_dir, home.path().join("data"));
}

#[test]
fn a_file_outside_of_conf_has_its_own_folder_as_home() {
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("node1.yaml");
    fs::write(&file, "").unwrap();
    let config = Config::load(&file).unwrap().config;
    assert_eq!(config.home, home.path());
}

#[test]
fn every_error_line_names_the_file() {
    let (home, loaded) = load("apisix: {node_listen: 0}\ndeployment: {role: boss}");
    let error = loaded.unwrap_err().to_string();
    let file = home.path().join("conf/config.yaml").display().to_string();
    assert_eq!(error.lines().count(), 2, "{error}");
    assert!(error.lines().all(|line| line.starts_with(&file)), "{error}");
}

#[test]
fn a_missing_file_is_named() {
    let home = tempfile::tempdir().unwrap();
    let error = Config::load(&home.path().join("none.yaml")).unwrap_err();
    assert!(matches!(error, LoadError::Unreadable { .. }));
    assert!(error.to_string().contains("none.yaml"), "{error}");
}

#[test]
fn certificate_files_must_exist_where_they_are_used() {
    let text = "
apisix: {ssl: {ssl_trusted_certificate: conf/ca.crt}}
deployment:
  etcd: {host: ['https://127.0.0.1:2379'], tls: {cert: conf/a.crt, key: conf/a.key}}";
    let (_home, loaded) = load(text);
    let error = loaded.unwrap_err();
    let paths: Vec<&str> = error.problems().iter().map(|one| one.path.as_str()).collect();
    let expected = [
        "apisix.ssl.ssl_trusted_certificate",
        "deployment.etcd.tls.cert",
        "deployment.etcd.tls.key",
    ];
    assert_eq!(paths, expected);
    // The embedded store does not use them.
    let (_home, loaded) = load(
        "deployment: {role_traditional: {config_provider: embedded}, etcd: {tls: {cert: a, key: b}}}",
    );
    loaded.unwrap();
}
