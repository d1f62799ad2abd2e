//! Files of configuration, read and refused.

#![allow(clippy::unwrap_used)]
use super::*;

const GOOD: &str = r#"
    [server]
    listen = "127.0.0.1:7700"
    internal_listen = "127.0.0.1:7750"
    [cluster]
    data_dir = "d"
    bootstrap = true
    secret_file = "s"
    [postgres]
    password_file = "p"
"#;

fn load(text: &str) -> Result<Config, ConfigError> {
    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    std::fs::write(file.path(), text).unwrap();
    Config::load(file.path())
}

#[test]
fn defaults_fill_what_is_left_out() {
    let config = load(GOOD).unwrap();
    assert_eq!(config.cluster.shards, 12);
    assert_eq!(config.internal_url(), "http://127.0.0.1:7750");
    let again = toml::to_string(&config).unwrap();
    assert_eq!(load(&again).unwrap(), config);
}

#[test]
fn what_makes_no_sense_is_refused_by_its_key() {
    let refused = |from: &str, to: &str| {
        let text = GOOD.replace(from, to);
        assert_ne!(text, GOOD, "{from} is not there");
        match load(&text) {
            Err(ConfigError::Value { key, .. }) => key,
            other => panic!("{to}: {other:?}"),
        }
    };
    let bootstrap = "bootstrap = true";
    assert_eq!(refused(bootstrap, ""), "cluster.join");
    assert_eq!(refused(bootstrap, "bootstrap = true\njoin = [\"http://127.0.0.1:1\"]"), "cluster.join");
    assert_eq!(refused(bootstrap, "join = [\"127.0.0.1:1\"]"), "cluster.join");
    assert_eq!(refused(bootstrap, "bootstrap = true\nshards = 0"), "cluster.shards");
    assert_eq!(refused(bootstrap, "bootstrap = true\ninitial_groups = 13"), "cluster.initial_groups");
    assert_eq!(refused(bootstrap, "bootstrap = true\nreplicas = 6"), "cluster.replicas");
    assert_eq!(refused("127.0.0.1:7700", "0.0.0.0:7700"), "server.listen");
    assert_eq!(refused("127.0.0.1:7750", "10.0.0.1:7750"), "server.internal_listen");
    assert_eq!(refused("password_file = \"p\"", "password_file = \"p\"\ntls = \"verify-full\""), "postgres.ca_file");
    assert_eq!(refused("password_file = \"p\"", "password_file = \"p\"\nca_file = \"ca\""), "postgres.ca_file");
    for (section, keys) in [
        ("postgres", &["queue"][..]),
        ("limits", &["body_bytes", "bodies_bytes", "deadline_ms", "concurrency", "streams", "idle_ms"]),
        ("import", &["batch_rows", "batch_bytes", "parallel"]),
        ("search.calibration", &["queries_per_minute"]),
        ("cache", &["ttl_seconds"]),
    ] {
        for key in keys {
            let text = match section {
                "postgres" => format!("{GOOD}\n{key} = 0"),
                other => format!("{GOOD}\n[{other}]\n{key} = 0"),
            };
            assert_eq!(refused(GOOD, &text), format!("{section}.{key}"));
        }
    }
    assert_eq!(refused(GOOD, &format!("{GOOD}\n[search]\nrecheck_share = 1.5")), "search.recheck_share");
    assert_eq!(refused(GOOD, &format!("{GOOD}\n[cache]\nttl_seconds = 86401")), "cache.ttl_seconds");
    assert!(matches!(load(&GOOD.replace(bootstrap, "bootstrap = true\ncolour = 1")), Err(ConfigError::Read(_))));
}

#[test]
fn only_what_leads_somewhere_is_advertised() {
    let load = |listen: &str, advertise: &str| {
        let given = format!("{listen}\"\ninsecure = true\n{advertise}");
        load(&GOOD.replace("127.0.0.1:7700\"", &given)).map(|config| config.http_url())
    };
    let unusable = |loaded| matches!(loaded, Err(ConfigError::Value { key: "server.advertise", .. }));
    for listen in ["0.0.0.0:7700", "[::]:7700", "127.0.0.1:0"] {
        assert!(unusable(load(listen, "")), "{listen}");
        let advertised = load(listen, "advertise = \"http://here:7700\"").unwrap();
        assert_eq!(advertised, "http://here:7700");
    }
    for url in ["http://0.0.0.0:7700", "https://here:7700", "here:7700", "http://here:0", ""] {
        assert!(unusable(load("10.0.0.1:7700", &format!("advertise = \"{url}\""))), "{url}");
    }
}

#[test]
fn with_certificates_everything_is_https_and_any_address_may_be_listened_on() {
    let peers = "[tls]\nca_file = \"ca\"\ncert_file = \"c\"\nkey_file = \"k\"";
    let clients = "[server.tls]\ncert_file = \"c\"\nkey_file = \"k\"";
    let open = GOOD.replace("127.0.0.1:7700", "10.0.0.1:7700").replace("127.0.0.1:7750", "10.0.0.1:7750");
    let config = load(&format!("{open}\n{peers}\n{clients}")).unwrap();
    assert_eq!(
        (config.http_url().as_str(), config.internal_url().as_str()),
        ("https://10.0.0.1:7700", "https://10.0.0.1:7750")
    );
    assert_eq!(load(&toml::to_string(&config).unwrap()).unwrap(), config);
    // Each listener for itself.
    assert!(load(&format!("{open}\n{peers}")).unwrap_err().to_string().starts_with("server.listen"));
    assert!(load(&format!("{open}\n{clients}")).unwrap_err().to_string().starts_with("server.internal_listen"));
    let join = |url: &str| GOOD.replace("bootstrap = true", &format!("join = [\"{url}\"]"));
    let plain = load(&format!("{}\n{peers}", join("http://a:7750"))).unwrap_err().to_string();
    assert!(plain.starts_with("cluster.join") && plain.contains("write https://"), "{plain}");
    let encrypted = load(&join("https://a:7750")).unwrap_err().to_string();
    assert!(encrypted.contains("set up [tls]"), "{encrypted}");
}
