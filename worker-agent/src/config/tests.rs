//! What is a configuration, and what is not.
#![allow(clippy::unwrap_used)]
use super::*;

const GOOD: &str = r#"
name = "w1"
mode = "managed"
listen = "127.0.0.1:7801"
coordinators = ["http://127.0.0.1:7750"]
cluster_secret_file = "/x/cluster.secret"
postgres_password_file = "/x/postgres.password"
[postgres]
data_dir = "/x/w1"
port = 7900
"#;

fn load(text: &str) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.toml");
    std::fs::write(&path, text).unwrap();
    Config::load(&path, &Overrides::default())
}

#[test]
fn defaults_fill_a_short_file() {
    let config = load(GOOD).unwrap();
    assert_eq!(config.capacity, 100);
    assert_eq!(config.agent_url(), "http://127.0.0.1:7801");
    assert_eq!(config.postgres.database, "atoll");
    assert!(config.postgres.fsync);
    assert_eq!(config.stats.interval_seconds, 10);
    let printed = toml::to_string(&config).unwrap();
    assert_eq!(load(&printed).unwrap().name, config.name);
}

#[test]
fn unknown_keys_are_errors() {
    assert!(load(&format!("{GOOD}colour = 1\n")).is_err());
    assert!(load(&format!("colour = 1\n{GOOD}")).is_err());
}

#[test]
fn open_addresses_need_insecure() {
    let external = GOOD.replace("managed", "external").replace("data_dir = \"/x/w1\"", "user = \"app\"");
    for open in [
        GOOD.replace("127.0.0.1:7801", "10.0.0.1:7801"),
        GOOD.replace("http://127.0.0.1:7750", "http://10.0.0.1:7750"),
        format!("{GOOD}host = \"10.0.0.1\"\n"),
        format!("{external}host = \"db.example.com\"\n"),
    ] {
        assert!(load(&open).unwrap_err().to_string().contains("insecure = true"), "{open}");
        load(&format!("insecure = true\n{open}")).unwrap();
    }
    for near in ["localhost", "127.0.0.2", "::1", "/run/postgresql"] {
        load(&format!("{external}host = \"{near}\"\n")).unwrap();
    }
    load(&GOOD.replace("http://127.0.0.1:7750", "http://[::1]:7750")).unwrap();
}

#[test]
fn who_listens_everywhere_says_where_he_is_reached() {
    let open = format!("insecure = true\n{}", GOOD.replace("127.0.0.1:7801", "0.0.0.0:7801"));
    assert!(load(&open).unwrap_err().to_string().starts_with("advertise"));
    load(&format!("advertise = \"http://10.0.0.1:7801\"\n{open}")).unwrap();
    assert!(load(&format!("insecure = true\n{GOOD}host = \"::\"\n")).is_err());
}

#[test]
fn each_mode_needs_its_own_settings() {
    assert!(load(&GOOD.replace("data_dir = \"/x/w1\"", "")).is_err());
    let external = GOOD.replace("managed", "external");
    assert!(load(&external).is_err());
    let external = external.replace("data_dir = \"/x/w1\"", "user = \"app\"");
    let config = load(&external).unwrap();
    assert!(config.identity_file.unwrap().ends_with("agent.identity"));
}

#[test]
fn several_endpoints_stand_for_host_and_port() {
    let external = GOOD.replace("managed", "external").replace("data_dir = \"/x/w1\"", "user = \"app\"");
    let several = |more: &str| external.replace("port = 7900", more);
    let near = several("endpoints = [\"127.0.0.1:7900\", \"[::1]:7901\"]");
    let config = load(&near).unwrap();
    assert_eq!(config.postgres.places().len(), 2);
    assert_eq!(load(&toml::to_string(&config).unwrap()).unwrap().postgres.endpoints, config.postgres.endpoints);
    let far = several("endpoints = [\"127.0.0.1:7900\", \"db2.example.com:5432\"]");
    load(&format!("insecure = true\n{far}")).unwrap();
    load(&format!("{far}tls = \"verify-full\"\nca_file = \"/x/ca\"\n")).unwrap();
    for (text, said) in [
        (far, "postgres.endpoints: only a loopback address"),
        (format!("{near}host = \"localhost\"\n"), "postgres.host: postgres.endpoints say"),
        (format!("{near}port = 7900\n"), "postgres.port: postgres.endpoints say"),
        (format!("{near}advertise_host = \"a\"\n"), "postgres.advertise_host: postgres.endpoints say"),
        (several("endpoints = [\"localhost:1\", \"localhost:1\"]"), "localhost:1 is there twice"),
        (several("endpoints = []"), "postgres.port: must be a fixed port"),
        (GOOD.replace("port = 7900", "endpoints = [\"localhost:1\"]"), "a managed server is one"),
    ] {
        let told = load(&text).unwrap_err().to_string();
        assert!(told.contains(said), "{told}");
    }
    assert!(load(&several("endpoints = [\"localhost\"]")).is_err());
}

#[test]
fn relative_paths_are_meant_from_here() {
    let here = std::env::current_dir().unwrap();
    let folder = tempfile::tempdir_in(&here).unwrap();
    let path = folder.path().join("agent.toml");
    let external = GOOD.replace("managed", "external").replace("data_dir = \"/x/w1\"", "user = \"app\"");
    std::fs::write(&path, external.replace("/x/cluster.secret", "cluster.secret")).unwrap();
    let config = Config::load(path.strip_prefix(&here).unwrap(), &Overrides::default()).unwrap();
    assert_eq!(config.identity_file.unwrap(), folder.path().join("agent.identity"));
    assert_eq!(config.cluster_secret_file, here.join("cluster.secret"));
}

#[test]
fn flags_win_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("agent.toml");
    std::fs::write(&path, GOOD).unwrap();
    let overrides = Overrides { bin: Some("/opt/pg/bin".into()), stop_on_stdin_eof: true };
    let config = Config::load(&path, &overrides).unwrap();
    assert_eq!(config.postgres.bin.as_deref(), Some(Path::new("/opt/pg/bin")));
    assert!(config.stop_on_stdin_eof);
}

#[test]
fn with_certificates_everything_is_https_and_any_address_will_do() {
    let tls = "[tls]\nca_file = \"/x/ca\"\ncert_file = \"/x/c\"\nkey_file = \"/x/k\"\n";
    let far = GOOD.replace("127.0.0.1:7801", "10.0.0.1:7801").replace("http://127.0.0.1", "https://10.0.0.2");
    let config = load(&format!("{far}{tls}")).unwrap();
    assert_eq!((config.agent_url().as_str(), config.agent_host().as_str()), ("https://10.0.0.1:7801", "10.0.0.1"));
    let plain = load(&format!("{GOOD}{tls}")).unwrap_err().to_string();
    assert!(plain.starts_with("coordinators") && plain.contains("write https://"), "{plain}");
    let encrypted = load(&GOOD.replace("http://", "https://")).unwrap_err().to_string();
    assert!(encrypted.contains("set up [tls]"), "{encrypted}");
    let advertised = format!("advertise = \"http://a:1\"\n{far}{tls}");
    assert!(load(&advertised).unwrap_err().to_string().starts_with("advertise"));
}

#[test]
fn a_server_with_tls_needs_its_files_and_may_be_anywhere() {
    let files = "tls = \"verify-full\"\nca_file = \"/x/ca\"\n";
    let own = "cert_file = \"/x/c\"\nkey_file = \"/x/k\"\n";
    let external = GOOD.replace("managed", "external").replace("data_dir = \"/x/w1\"", "user = \"app\"");
    load(&format!("{GOOD}host = \"10.0.0.1\"\n{files}{own}")).unwrap();
    load(&format!("{external}host = \"db.example.com\"\n{files}")).unwrap();
    for (text, key) in [
        (format!("{GOOD}{files}"), "postgres.cert_file"),
        (format!("{GOOD}{own}"), "postgres.cert_file"),
        (format!("{GOOD}tls = \"verify-full\"\n{own}"), "postgres.ca_file"),
        (format!("{external}{files}{own}"), "postgres.cert_file"),
        (format!("{external}host = \"/run/postgresql\"\n{files}"), "postgres.host"),
    ] {
        let said = load(&text).unwrap_err().to_string();
        assert!(said.starts_with(key), "{said}");
    }
}
