use super::*;
use crate::model::Transport;

fn parse(text: &str) -> Result<Config, Vec<String>> {
    parse_with(text, &[])
}

fn parse_with(text: &str, environment: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    Config::parse(text, environment).map_err(|problems| problems.iter().map(ToString::to_string).collect())
}

fn mistakes(text: &str) -> String {
    parse(text).expect_err("must be refused").join("\n")
}

#[test]
fn without_a_file_the_default_listeners_serve_loopback() {
    let config = parse("").unwrap();
    let shown: Vec<_> = config
        .listeners
        .iter()
        .flat_map(|listener| listener.bind.iter().map(|bind| format!("{} {bind}", listener.mode.as_str())))
        .collect();
    let expected = [
        "hep udp:127.0.0.1:9060",
        "hep tcp:127.0.0.1:9060",
        "mirror udp:127.0.0.1:5062",
        "registrar udp:127.0.0.1:5060",
        "registrar tcp:127.0.0.1:5060",
    ];
    assert_eq!(shown, expected);
    assert_eq!(config.http.listen, [loopback(8080)]);
    assert_eq!(config.ops.listen, [loopback(9464)]);
    assert!(config.database.url.starts_with("sqlite:") && config.database.url.ends_with("hookswitch.db"));
    assert_eq!(config.listeners, Config::default().listeners);
}

#[test]
fn every_mistake_is_reported_with_its_line_and_key() {
    let text = "data_dir = 7\n[http]\nlisten = \"nowhere\"\nport = 1\n\n[listeners.office]\nbind = [\"udp:1.2.3.4\",\n \"sctp:[::1]:5061\"]\n";
    let report = mistakes(text);
    for expected in [
        "line 1: data_dir: must be a string, not a number",
        "line 3: http.listen: \"nowhere\" is no address and port",
        "line 4: http.port: no such key; there are listen",
        "line 6: listeners.office.mode: is needed, e.g. mode = \"registrar\"",
        "line 7: listeners.office.bind: \"udp:1.2.3.4\" is no address",
        "line 8: listeners.office.bind: \"sctp:[::1]:5061\" is no address",
    ] {
        assert!(report.contains(expected), "{expected}\n--\n{report}");
    }
}

#[test]
fn a_syntax_mistake_names_its_line() {
    assert!(mistakes("[http]\nlisten = = 1\n").contains("line 2: "));
}

#[test]
fn the_environment_goes_before_the_file_and_only_touches_its_own_key() {
    let environment = [
        ("HOOKSWITCH_DATABASE__URL", "postgres://me:secret@db.example/hook"),
        ("HOOKSWITCH_LISTENERS__REGISTRAR__BIND", "udp:127.0.0.1:0, tcp:127.0.0.1:0"),
        ("HOOKSWITCH_LIMITS__CONNECTIONS_MAX", "7"),
        ("HOOKSWITCH_DATA_DIR", "/srv/hook"),
        ("HOOKSWITCH_PORT_8080_TCP", "tcp://10.0.0.1:8080"),
        ("HOOKSWITCH_TOKEN", "for the command line"),
        ("PATH", "/bin"),
    ];
    let config = parse_with("[database]\nurl = \"sqlite:/tmp/a.db\"", &environment).unwrap();
    assert_eq!(config.database.url, "postgres://me:secret@db.example/hook");
    assert_eq!(config.data_dir, Path::new("/srv/hook"));
    assert_eq!(config.limits.connections_max, 7);
    assert_eq!(config.listeners.len(), 3, "the others keep their defaults");
    assert_eq!(config.listeners[2].bind[0].address.port(), 0);
    assert_eq!(config.unknown_variables, ["HOOKSWITCH_PORT_8080_TCP"]);
}

#[test]
fn a_mistake_in_the_environment_names_the_variable() {
    let environment =
        [("HOOKSWITCH_HTTP__LISTEN", "x"), ("HOOKSWITCH_HTTP__LISTEM", "x"), ("HOOKSWITCH_DATA_DIR__X", "1")];
    let report = parse_with("data_dir = \"/srv\"", &environment).unwrap_err().join("\n");
    assert!(report.contains("environment HOOKSWITCH_HTTP__LISTEN: http.listen: \"x\" is no address"), "{report}");
    assert!(
        report.contains("environment HOOKSWITCH_HTTP__LISTEM: http.listem: no such key; did you mean listen?"),
        "{report}"
    );
    assert!(report.contains("environment HOOKSWITCH_DATA_DIR__X: data_dir.x: runs through a key"), "{report}");
}

#[test]
fn key_files_are_read_and_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let [new, old, bad] = ["new", "old", "bad"].map(|name| folder.path().join(name).display().to_string());
    for (path, text) in [(&new, "ab".repeat(32)), (&old, "cd".repeat(32)), (&bad, "ab".to_owned())] {
        std::fs::write(path, text).unwrap();
    }
    let paths =
        |config: &Config| config.secret_keys.iter().map(|file| file.path.display().to_string()).collect::<Vec<_>>();
    let both = parse(&format!("secret_key_file = [\"{new}\", \"{old}\"]")).unwrap();
    assert_eq!(paths(&both), [&*new, &*old]);
    let shown = format!("{both:?}");
    assert!(!shown.contains("abab") && !shown.contains("171, 171"), "{shown}");
    let one = parse_with(&format!("secret_key_file = \"{bad}\""), &[("HOOKSWITCH_SECRET_KEY_FILE", &old)]).unwrap();
    assert_eq!(paths(&one), [&*old]);
    assert!(parse("").unwrap().secret_keys.is_empty());
    let report = mistakes(&format!("secret_key_file = [\"{bad}\", \"{bad}.gone\"]"));
    assert!(report.contains(&format!("line 1: secret_key_file: {bad} holds no key: 32 bytes in")), "{report}");
    assert!(report.contains(&format!("line 1: secret_key_file: can't read {bad}.gone: ")), "{report}");
}

#[test]
fn naming_a_listener_in_the_file_replaces_the_default_ones() {
    let config =
        parse("[listeners.kamailio]\nmode = \"replica\"\nbind = \"udp:[::1]:5064\"\npbx = \"office\"").unwrap();
    assert_eq!(config.listeners.len(), 1);
    assert_eq!(config.listeners[0].mode, Mode::Replica);
    assert_eq!(config.listeners[0].pbx.as_deref(), Some("office"));
}

#[test]
fn an_open_registrar_is_refused_unless_its_networks_are_set() {
    let open = "[listeners.registrar]\nbind = [\"udp:0.0.0.0:5060\"]\n";
    assert!(
        mistakes(open).contains("line 2: listeners.registrar.networks: udp:0.0.0.0:5060 can be reached from outside")
    );
    let limited = format!("{open}networks = [\"192.0.2.0/24\"]\n");
    let config = parse(&limited).unwrap();
    assert!(config.listeners[0].admits("192.0.2.9".parse().unwrap()));
    assert!(!config.listeners[0].admits("198.51.100.9".parse().unwrap()));
    parse("[listeners.registrar]\nbind = [\"udp:[::1]:5060\"]").unwrap();
}

#[test]
fn what_is_believed_like_a_pbx_is_refused_outside_loopback_unless_it_is_said_who_may_send() {
    for mode in ["replica", "mirror", "hep"] {
        let open = format!("[listeners.{mode}]\nbind = [\"udp:192.0.2.1:5062\"]\n");
        let said = mistakes(&open);
        assert!(
            said.contains(&format!("line 2: listeners.{mode}.networks: udp:192.0.2.1:5062 can be reached")),
            "{said}"
        );
        assert!(said.contains("anybody could make up calls"), "{said}");
        parse(&format!("{open}networks = [\"192.0.2.10\"]\n")).unwrap();
        parse(&open.replace("192.0.2.1:", "127.0.0.1:")).unwrap();
    }
    parse("[listeners.hep]\nbind = [\"udp:192.0.2.1:9060\"]\nkey = \"a long secret\"\n").unwrap();
}

#[test]
fn only_hep_has_a_key_which_is_never_shown_and_capture_ids() {
    let listener = "[listeners.hep]\nkey = \"s3cret\"\ncapture_ids = { 2001 = \"default\", 7 = \"branch\" }";
    let config = parse(listener).unwrap();
    let hep = &config.listeners[0];
    assert_eq!(hep.capture_ids.get(&7).map(String::as_str), Some("branch"));
    assert_eq!(hep.bind.len(), 2, "it has default addresses");
    let key = hep.key.as_ref().unwrap();
    assert!(key.is(b"s3cret") && !key.is(b"s3cre") && !key.is(b"s3creT") && !key.is(b""));
    assert!(!format!("{config:?}").contains("s3cret"));
    let wrong = mistakes(&listener.replace("7 =", "seven =").replace("s3cret", &"s3cret".repeat(99)));
    assert!(wrong.contains("line 3: listeners.hep.capture_ids.seven: is no capture id"), "{wrong}");
    assert!(wrong.contains("line 2: listeners.hep.key: must have 1 to 256 bytes, not 594"), "{wrong}");
    assert!(!wrong.contains("s3cret"));
    let elsewhere = mistakes("[listeners.mirror]\nkey = \"a\"\n[listeners.mirror.capture_ids]\n1 = \"a\"");
    assert!(elsewhere.contains("line 2: listeners.mirror.key: only a listener of mode hep has it"), "{elsewhere}");
    assert!(elsewhere.contains("listeners.mirror.capture_ids: only a listener of mode hep has it"), "{elsewhere}");
}

#[test]
fn tls_needs_a_certificate_and_its_key_and_says_which_file_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let (chain, key) = certificate(folder.path(), "one");
    let (_, other) = certificate(folder.path(), "two");
    let (absent, broken) = (folder.path().join("absent").display().to_string(), folder.path().join("broken"));
    std::fs::write(&broken, "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n").unwrap();
    let broken = broken.display().to_string();
    let listener = |bind: &str, chain: &str, key: &str| {
        let keys = [("tls_certificate", chain), ("tls_key", key)];
        let keys =
            keys.iter().filter(|(_, file)| !file.is_empty()).map(|(name, file)| format!("{name} = \"{file}\"\n"));
        format!("[listeners.hep]\nbind = \"{bind}:127.0.0.1:0\"\n{}", keys.collect::<String>())
    };
    let config = parse(&listener("tls", &chain, &key)).unwrap();
    assert!(config.listeners[0].certificate.is_some());
    for (bind, chain_file, key_file, expected) in [
        ("tls", "", "", "listeners.hep.tls_certificate: is needed for tls:127.0.0.1:0"),
        ("tls", "", "", "listeners.hep.tls_key: is needed for tls:127.0.0.1:0"),
        ("tls", &*chain, "", "listeners.hep.tls_key: is needed for tls:127.0.0.1:0"),
        ("tcp", &*chain, &*key, "line 3: listeners.hep.tls_certificate: no address of bind speaks TLS"),
        ("tcp", "", &*key, "line 3: listeners.hep.tls_key: no address of bind speaks TLS"),
        ("tls", &*absent, &*key, "absent: can't be read: No such file"),
        ("tls", &*chain, &*absent, "line 4: listeners.hep.tls_key: "),
        ("tls", &*key, &*key, "line 3: listeners.hep.tls_certificate: "),
        ("tls", &*key, &*key, "holds no certificate in PEM"),
        ("tls", &*broken, &*key, "line 3: listeners.hep.tls_certificate: "),
        ("tls", &*chain, &*chain, "holds no private key in PEM without a password"),
        ("tls", &*chain, &*other, "line 4: listeners.hep.tls_key: "),
        ("tls", &*chain, &*other, "two.key is not the key of "),
    ] {
        let report = mistakes(&listener(bind, chain_file, key_file));
        assert!(report.contains(expected), "{expected}\n--\n{report}");
        assert!(!report.contains("PRIVATE"), "{report}");
    }
}

/// Files of a certificate made for the moment, and of its key.
fn certificate(folder: &Path, name: &str) -> (String, String) {
    let made = rcgen::generate_simple_self_signed([String::from("pbx.example")]).unwrap();
    let (chain, key) = (folder.join(format!("{name}.crt")), folder.join(format!("{name}.key")));
    std::fs::write(&chain, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    (chain.display().to_string(), key.display().to_string())
}

#[test]
fn digest_is_refused_until_it_is_built() {
    assert!(mistakes("[listeners.registrar]\nauth = \"basic\"").contains("there are none and digest"));
    let digest = parse("[listeners.registrar]\nauth = \"digest\"\nbind = [\"udp:0.0.0.0:5060\"]").unwrap();
    assert_eq!(digest.listeners[0].auth, Auth::Digest, "a password guards it, so it may be open to all");
    parse("[listeners.registrar]\nauth = \"none\"").unwrap();
    assert!(mistakes("[listeners.mirror]\nauth = \"none\"").contains("only a registrar authenticates"));
}

#[test]
fn two_listeners_never_share_a_port() {
    let two = |a: &str, b: &str| {
        let anybody = "networks=[\"::/0\"]";
        format!("[listeners.registrar]\nbind=\"{a}\"\n{anybody}\n[listeners.mirror]\nbind=\"{b}\"\n{anybody}")
    };
    assert!(
        mistakes(&two("udp:127.0.0.1:5060", "udp:127.0.0.1:5060")).contains("is taken by listeners.mirror already")
    );
    assert!(mistakes(&two("udp:0.0.0.0:5060", "udp:127.0.0.1:5060")).contains("one port, one listener"));
    parse(&two("udp:127.0.0.1:5060", "tcp:127.0.0.1:5060")).unwrap();
    let tls = two("tcp:127.0.0.1:5060", "tls:127.0.0.1:5060");
    assert!(mistakes(&tls).contains("is taken by listeners.mirror already"));
    parse(&two("udp:127.0.0.1:0", "udp:127.0.0.1:0")).unwrap();
    parse(&two("udp:[::]:5060", "udp:0.0.0.0:5060")).unwrap();
}

#[test]
fn a_password_is_never_shown() {
    for url in ["postgres://me:s3cret@db.example:5433/hook", "postgres://db.example/hook?password=s3cret"] {
        let config = parse(&format!("[database]\nurl = \"{url}\"")).unwrap();
        assert!(!format!("{config:?}").contains("s3cret"), "{config:?}");
        assert!(config.database.shown().contains("db.example"));
    }
    assert!(!mistakes("[database]\nurl = \"mysql://me:s3cret@db\"").contains("s3cret"));
}

#[test]
fn copies_do_not_come_over_websocket() {
    for (mode, why) in [("mirror", "copies do not come over WebSocket"), ("hep", "HEP does not go over WebSocket")] {
        let text = format!("[listeners.x]\nmode = \"{mode}\"\nbind = [\"udp:127.0.0.1:9060\", \"ws:127.0.0.1:9080\"]");
        let expected = format!("line 3: listeners.x.bind: ws:127.0.0.1:9080: {why}; bind udp, tcp or tls");
        assert!(mistakes(&text).contains(&expected), "{}", mistakes(&text));
    }
}

#[test]
fn numbers_have_bounds() {
    assert!(
        mistakes("[limits]\nconnections_max = 0")
            .contains("line 2: limits.connections_max: must be a whole number from 1 to")
    );
    assert!(mistakes("[limits]\nconnections_max = 1.5").contains("must be a whole number, not a fraction"));
    assert!(mistakes("[registrar]\nexpires_default_s = 9000").contains("must lie between"));
    assert_eq!(parse("[registrar]\nexpires_max_s = 86_400").unwrap().registrar.expires_max_s, 86_400);
}

#[test]
fn a_mistake_says_what_to_write_instead() {
    for (wrong, advice) in [
        (
            "[registrar]\nexpires_max_s = \"2h\"",
            "line 2: registrar.expires_max_s: must be a whole number of seconds, not a string; write expires_max_s = 7200",
        ),
        ("[limits]\ncommit_wait_ms = \"1 s\"", "of milliseconds, not a string; write commit_wait_ms = 1000"),
        (
            "[limits]\nheld_kib_max = 99_999_999",
            "line 2: limits.held_kib_max: must be a whole number of KiB from 1 to 16777216",
        ),
        ("[registrar]\nexpires_max = 60", "line 2: registrar.expires_max: no such key; did you mean expires_max_s?"),
        ("listen = \"127.0.0.1:1\"", "line 1: listen: no such key here; it belongs under [http] or [ops]"),
        ("[registar]\nrealm = \"x\"", "line 1: registar: no such key; did you mean registrar?"),
        (
            "[log]\nformat = \"jsn\"",
            "line 2: log.format: \"jsn\" is no format; there are auto, human and json; did you mean \"json\"?",
        ),
        ("[listeners.registrar]\nauth = \"Digest\"", "there are none and digest; did you mean \"digest\"?"),
        ("[feeds.pbx]\nkind = \"asterix\"", "line 2: feeds.pbx.kind: \"asterix\" is no kind of feed"),
        ("[registrar]\nrealm = 7", "line 2: registrar.realm: must be a string, not a number; write realm = \"7\""),
        ("[http]\ntrusted_proxies = [\"proxy\"]", "line 2: http.trusted_proxies: \"proxy\" is no address or network"),
        ("[http]\nallowed_origins = [\"crm.example\"]", "line 2: http.allowed_origins: \"crm.example\" is no origin"),
    ] {
        let report = mistakes(wrong);
        assert!(report.contains(advice), "{advice}\n--\n{report}");
    }
    let ordered = mistakes("[retention]\ncalls_days = 0\n[http]\nlisten = \"x\"\n[database]\nurl = \"x\"");
    let lines: Vec<&str> = ordered.lines().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(lines, ["line 2", "line 4", "line 6"], "{ordered}");
}

#[test]
fn the_level_takes_directives_and_refuses_nonsense() {
    assert_eq!(
        parse("[log]\nlevel = \"info,hookswitch::ingest=debug\"").unwrap().log.level,
        "info,hookswitch::ingest=debug"
    );
    assert!(mistakes("[log]\nlevel = \"loud!=x\"").contains("line 2: log.level"));
}

#[test]
fn the_sample_configuration_is_good_and_says_the_defaults() {
    let sample = parse(&sample()).unwrap();
    let default = parse("").unwrap();
    assert_eq!(sample.listeners, default.listeners);
    assert_eq!(sample.registrar, default.registrar);
    assert_eq!(sample.limits, default.limits);
    assert_eq!(sample.retention, default.retention);
    assert_eq!((sample.feeds, sample.secret_keys.len()), (default.feeds, default.secret_keys.len()));
    assert_eq!((&sample.data_dir, &sample.database.url), (&default.data_dir, &default.database.url));
    assert_eq!((sample.http, sample.ops, sample.log), (default.http, default.ops, default.log));
}

#[test]
fn every_commented_out_example_in_the_sample_is_good_too() {
    let text = sample();
    let uncommented = text.lines().map(|line| match line.strip_prefix('#') {
        Some(key) if !key.starts_with(' ') => key,
        _ => line,
    });
    let folder = tempfile::tempdir().unwrap();
    let (chain, key) = certificate(folder.path(), "tls");
    let text = uncommented.collect::<Vec<_>>().join("\n");
    let text = text.replace("/etc/hookswitch/tls.crt", &chain).replace("/etc/hookswitch/tls.key", &key);
    let text = text.replace("/etc/hookswitch/phones-ca.crt", &chain);
    let secret = folder.path().join("secret.key");
    std::fs::write(&secret, "ab".repeat(32)).unwrap();
    let text = text.replace("/etc/hookswitch/secret.key", &secret.display().to_string());
    let text = text.replace("/etc/hookswitch/event-socket-secret", &secret.display().to_string());
    // It stands in for `url`.
    let text = text.replace("\nurl_file = ", "\n#url_file = ");
    let config = parse(&text).unwrap();
    assert_eq!(config.secret_keys.len(), 1);
    assert!(config.listeners.iter().any(|listener| listener.certificate.is_some()));
    assert_eq!(config.listeners.len(), 5);
    assert!(config.listeners.iter().any(|listener| listener.key.is_some() && !listener.capture_ids.is_empty()));
}

#[test]
fn a_feed_by_subscription_has_keys_of_its_own() {
    let text = "[feeds.subscription]\ndialogs = [\"101\", \"102\"]\nregistrations = \"all\"\ntransport = \"tcp\"\n\
                domain = \"office.example\"\nexpires_s = 120\n";
    let config = parse(text).unwrap();
    let feed = &config.feeds[0];
    assert_eq!((feed.kind, feed.address.as_str(), &feed.user), (Kind::Subscription, "127.0.0.1:5060", &None));
    let expected = Subscriptions {
        transport: Transport::Tcp,
        domain: Some("office.example".into()),
        dialogs: Extensions::These(vec!["101".into(), "102".into()]),
        registrations: Extensions::All,
        expires_s: 120,
    };
    assert_eq!(feed.subscriptions, expected);
    let report = mistakes(
        "[feeds.subscription]\nuser = \"101\"\ndialogs = []\ntransport = \"sctp\"\ntls = \"on\"\n\
         [feeds.asterisk]\nuser = \"u\"\nsecret = \"s\"\ndialogs = \"all\"\n[feeds.x]\nkind = \"subscription\"\n\
         registrations = [\"1 2\"]\n",
    );
    for expected in [
        "feeds.subscription.secret: is needed",
        "feeds.subscription.dialogs: nothing is left to subscribe to",
        "line 4: feeds.subscription.transport: \"sctp\" is no transport of a subscription; there are udp, tcp and tls",
        "line 9: feeds.asterisk.dialogs: no such key here; it belongs under [feeds.subscription]",
        "line 12: feeds.x.registrations: \"1 2\" is no extension",
    ] {
        assert!(report.contains(expected), "{expected}\n--\n{report}");
    }
}

#[test]
fn a_subscription_speaks_tls_when_either_key_says_so() {
    let over = |keys: &str| {
        let feed = parse(&format!("[feeds.subscription]\n{keys}")).unwrap().feeds.remove(0);
        (feed.subscriptions.transport, feed.tls, feed.address)
    };
    let (plain, secure) = ("127.0.0.1:5060".to_owned(), "127.0.0.1:5061".to_owned());
    assert_eq!(over(""), (Transport::Udp, Tls::Off, plain.clone()));
    assert_eq!(over("transport = \"tcp\"\ntls = \"off\""), (Transport::Tcp, Tls::Off, plain));
    assert_eq!(over("transport = \"tls\""), (Transport::Tls, Tls::On, secure.clone()));
    assert_eq!(over("tls = \"insecure\""), (Transport::Tls, Tls::Insecure, secure.clone()));
    assert_eq!(over("transport = \"tls\"\ntls = \"insecure\""), (Transport::Tls, Tls::Insecure, secure));
    for (transport, tls) in [("udp", "on"), ("tcp", "insecure"), ("tls", "off")] {
        let report = mistakes(&format!("[feeds.subscription]\ntransport = \"{transport}\"\ntls = \"{tls}\""));
        assert!(report.contains("line 3: feeds.subscription.tls: "), "{transport} {tls}\n--\n{report}");
    }
}

#[test]
fn the_databases_url_may_be_in_a_file_which_is_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("database-url");
    std::fs::write(&file, "postgres://hookswitch:hidden@db/hookswitch\n").unwrap();
    let text = format!("[database]\nurl_file = \"{}\"\n", file.display());
    assert_eq!(parse(&text).unwrap().database.url, "postgres://hookswitch:hidden@db/hookswitch");
    let both = mistakes(&format!("{text}url = \"sqlite:x\"\n"));
    assert!(both.contains("line 2: database.url_file: there is url as well"), "{both}");
    std::fs::write(&file, "mysql://hidden").unwrap();
    let wrong = mistakes(&text);
    assert!(wrong.contains("line 2: database.url_file: ") && wrong.contains("must begin with sqlite:"), "{wrong}");
    assert!(!wrong.contains("hidden"), "{wrong}");
    std::fs::remove_file(&file).unwrap();
    assert!(mistakes(&text).contains("can't read"), "{}", mistakes(&text));
}
