//! The table, and the files that are written from it.

use super::*;

#[test]
fn the_table_is_whole() {
    let mut seen = BTreeSet::new();
    for row in ROWS {
        assert!(seen.insert(row.path), "{} stands twice", row.path);
        assert!(!row.doc.is_empty(), "{} has no meaning", row.path);
        yaml(row.default).unwrap_or_else(|error| panic!("{}: {error}", row.path));
        let parent = row.path.rsplit_once('.').map(|(parent, _)| parent);
        if let Some(parent) = parent {
            let parent = parent.trim_end_matches("[]").trim_end_matches(".*");
            assert!(table::row(parent).is_some(), "{} has no parent", row.path);
        }
        if row.default == "null" && !row.example.is_empty() && !matches!(row.kind, Kind::Optional) {
            let example = yaml(row.example).unwrap();
            assert!(matches!(row.kind.read(&example), Outcome::Good(_)), "{}", row.path);
        }
    }
}

#[test]
fn the_example_is_what_the_table_says() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/config.yaml.example");
    let text = Config::example();
    if std::env::var_os("UPDATE_EXAMPLE").is_some() {
        std::fs::write(&file, &text).unwrap();
    }
    assert!(
        std::fs::read_to_string(&file).unwrap() == text,
        "conf/config.yaml.example is not what the table says: run with UPDATE_EXAMPLE=1"
    );
    for line in text.lines().filter(|line| line.starts_with('#')) {
        assert!(line.len() <= 120, "{line}");
    }
}

#[test]
fn the_example_holds_every_key_and_changes_none() {
    let loaded = parse(&Config::example()).unwrap();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config, good(""));
    for row in ROWS.iter().filter(|row| !matches!(row.kind, Kind::Json)) {
        let name = row.path.rsplit_once('.').map_or(row.path, |(_, name)| name);
        assert!(Config::example().contains(&format!("{name}:")), "{}", row.path);
    }
}

#[test]
fn what_the_example_comments_out_can_be_commented_in() {
    let mut text = String::new();
    for row in ROWS.iter().filter(|row| !row.example.is_empty() && !row.path.contains(['[', '*'])) {
        // One mapping a line: each key on its own, so that every one is tried.
        let (mut open, mut close) = (String::new(), String::new());
        for part in row.path.split('.') {
            open.push_str(&format!("{{{part}: "));
            close.push('}');
        }
        text.push_str(&format!("{}|{open}{}{close}\n", row.path, row.example));
    }
    for (path, yaml) in text.lines().map(|line| line.split_once('|').unwrap()) {
        // User and password, certificate and key come in pairs.
        let alone: Vec<String> = match parse(yaml) {
            Ok(_) => continue,
            Err(error) => error.problems().iter().map(|one| one.expected.clone()).collect(),
        };
        assert!(alone.iter().all(|one| one.starts_with("a value, as")), "{path}: {alone:?}");
    }
}

#[test]
fn the_shipped_config_is_one_node_on_loopback() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("conf/config.yaml");
    let loaded = Config::load(&file).unwrap();
    assert_eq!(loaded.warnings, []);
    let config = loaded.config;
    assert_eq!(config.deployment.provider, Provider::Embedded);
    assert_eq!(config.apisix.node_listen[0].port, 9080);
    assert_eq!(config.apisix.ssl.listen[0].port, 9443);
    let address = |address: Address| SocketAddr::from(address).to_string();
    assert_eq!(address(config.deployment.admin.admin_listen), "127.0.0.1:9180");
    assert_eq!(address(config.apisix.control), "127.0.0.1:9090");
    assert_eq!(address(config.apisix.status.unwrap()), "127.0.0.1:7085");
    assert_eq!(address(config.plugin_attr.prometheus.export_addr), "127.0.0.1:9091");
    assert!(config.deployment.admin.admin_key[0].key.is_empty());
    assert_eq!(config.home, Path::new(env!("CARGO_MANIFEST_DIR")));
    assert_eq!(config.sluice.data_dir, config.home.join("data"));
}
