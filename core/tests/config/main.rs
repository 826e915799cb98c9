//! Configuration: what URLs, variables and code say, and what is said about those that are wrong.

mod any;

use std::collections::BTreeSet;
use std::time::Duration;

use unfazed_core::config::{
    Backoff, Config, ConfigError, Deployment, Endpoint, MaybeRetry, Place, ProtocolChoice,
};
use unfazed_core::{Fallback, Policy};

#[test]
fn the_defaults_are_the_documented_ones() {
    let config = Config::default();
    let ms = Duration::from_millis;
    assert_eq!(config.deployment, Deployment::Standalone(Endpoint::tcp("localhost", 6379)));
    assert_eq!((config.username.clone(), config.password.clone()), (None, None));
    assert_eq!((config.database, config.client_name.clone()), (0, None));
    assert_eq!(config.protocol, ProtocolChoice::Auto);
    assert_eq!(config.deadline, ms(5_000));
    assert_eq!(config.connect_timeout, ms(2_000));
    assert_eq!(config.response_timeout, ms(2_000));
    assert_eq!(config.slow_response_timeout, ms(20_000));
    assert_eq!(config.ping_every(), Some(ms(2_000)));
    assert_eq!((config.retry.attempts_max, config.retry.redirects_max), (10, 16));
    assert_eq!(config.retry.backoff, Backoff { base: ms(50), max: ms(3_000) });
    assert_eq!(config.retry.maybe, MaybeRetry::Repeatable);
    assert_eq!(config.dial.backoff, Backoff { base: ms(50), max: ms(500) });
    assert_eq!((config.dial.jitter_percent, config.dial.failed_dials_max), (20, None));
    let breaker = &config.breaker;
    assert_eq!((breaker.probe_interval, breaker.probe_interval_max), (ms(500), ms(30_000)));
    assert_eq!((breaker.probes, breaker.probe_gap), (3, ms(100)));
    assert_eq!((breaker.retrip_window, breaker.fault_window), (ms(60_000), ms(10_000)));
    assert_eq!((breaker.fault_outcomes_min, breaker.fault_percent), (20, 50));
    assert_eq!((breaker.barrier_max, breaker.down_event_after), (ms(500), ms(300_000)));
    assert_eq!((config.queue.requests_max, config.queue.bytes_max), (65_536, 64 << 20));
    assert_eq!(config.queue.events_max, 1_024);
    let replies = &config.replies;
    assert_eq!((replies.bulk_max, replies.depth_max), (512 << 20, 128));
    assert_eq!((replies.elements_max, replies.line_max), (1 << 24, 64 << 10));
    assert_eq!(replies.reply_max, (1 << 30) - 1);
    let memory = &config.memory;
    assert_eq!((memory.entries_max, memory.bytes_max), (10_000, 100 << 20));
    assert_eq!(memory.shadow_value_max, 64 << 10);
    assert_eq!((memory.journal_entries_max, memory.journal_bytes_max), (10_000, 16 << 20));
    assert_eq!((config.fail_fast, config.tcp_nodelay, config.client_info), (false, true, true));
    assert_eq!(config.tcp_keepalive, Some(ms(60_000)));
    config.validate().unwrap();
}

#[test]
fn each_form_of_url_says_what_it_says() {
    let local = |port| Config::standalone("localhost", port);
    let same: Vec<(&str, Config)> = vec![
        ("redis://localhost", local(6379)),
        ("redis://localhost/", local(6379)),
        ("REDIS://localhost?", local(6379)),
        ("valkey://localhost:1", local(1)),
        ("redis://localhost:65535/15", local(65535).database(15)),
        ("redis://:secret@localhost", local(6379).password("secret")),
        ("redis://me:secret@localhost", local(6379).username("me").password("secret")),
        // RFC 3986 lets colons stand in a password.
        ("redis://me:a:b:c@localhost", local(6379).username("me").password("a:b:c")),
        ("redis://m%65:p%40%2F%3a%C3%A9+@localhost", local(6379).username("me").password("p@/:é+")),
        ("redis://[::1]:6380/1", Config::standalone("::1", 6380).database(1)),
        ("redis://[fe80::1%25eth0]", Config::standalone("fe80::1%eth0", 6379)),
        ("redis://127.0.0.1", Config::standalone("127.0.0.1", 6379)),
        ("redis://my_cache-1.internal.", Config::standalone("my_cache-1.internal.", 6379)),
        ("redis://localhost?db=3", local(6379).database(3)),
        ("redis://localhost/?client_name=a%40b", local(6379).client_name("a@b")),
        ("redis://localhost/?client_name=a@b", local(6379).client_name("a@b")),
        ("unix:///run/redis.sock", Config::unix("/run/redis.sock")),
        ("unix:///run/a@b%20c.sock", Config::unix("/run/a@b c.sock")),
        (
            "redis+unix://:pw@/run/redis.sock?db=2",
            Config::unix("/run/redis.sock").password("pw").database(2),
        ),
        ("valkey+unix:///r", Config::unix("/r")),
        ("memory://", Config::memory()),
        (
            "memory:///?db=1&memory_bytes_max=1KiB",
            Config::memory().database(1).memory_bytes_max(1024),
        ),
        (
            "redis://localhost?ping_interval=off&tcp_keepalive=off&failed_dials_max=off",
            local(6379).ping_interval(None).tcp_keepalive(None),
        ),
        ("redis://localhost?reply_max=1KiB", local(6379).reply_max(1024)),
        ("redis://localhost?ping_interval=1m", local(6379).ping_interval(Duration::from_secs(60))),
        (
            "redis://localhost?maybe_retry=idempotent&fail_fast=yes",
            local(6379).maybe_retry(MaybeRetry::Idempotent).fail_fast(true),
        ),
    ];
    for (url, expected) in same {
        assert_eq!(Config::from_url(url).as_ref(), Ok(&expected), "{url}");
        let again = expected.to_url_with_secrets();
        assert_eq!(Config::from_url(&again), Ok(expected), "{again}");
    }
}

#[test]
fn a_config_converts_from_what_connect_is_given() {
    fn connect<C>(config: C) -> Result<Config, ConfigError>
    where
        C: TryInto<Config>,
        ConfigError: From<C::Error>,
    {
        Ok(config.try_into()?)
    }
    let config = Config::standalone("localhost", 1);
    assert_eq!(connect("redis://localhost:1").unwrap(), config);
    let url = String::from("redis://localhost:1");
    assert_eq!(connect(&url).unwrap(), config);
    assert_eq!(connect(url).unwrap(), config);
    assert_eq!(connect(&config).unwrap(), config);
    assert_eq!(connect(config.clone()).unwrap(), config);
    assert_eq!("redis://localhost:1".parse::<Config>().unwrap(), config);
}

#[test]
fn variables_say_the_same_as_a_url() {
    let same: &[(&[(&str, &str)], &str)] = &[
        (&[], "redis://localhost:6379"),
        (&[("PATH", "/bin"), ("REDIS_MAXMEMORY", "1gb"), ("REDIS_HOST", "")], "redis://localhost"),
        (&[("REDIS_HOST", "cache"), ("REDIS_PORT", "7000")], "redis://cache:7000"),
        (&[("REDIS_HOST", "::1")], "redis://[::1]"),
        (&[("REDIS_HOST", "[::1]"), ("REDIS_MODE", "Standalone")], "redis://[::1]"),
        (&[("REDIS_PORT", "tcp://10.0.0.1:6379")], "redis://localhost"),
        (
            &[("REDIS_PASSWORD", "a/b@c%20"), ("REDIS_DB", "3")],
            "redis://:a%2Fb%40c%2520@localhost/3",
        ),
        (&[("REDIS_USERNAME", "me"), ("REDIS_PASSWORD", "pw")], "redis://me:pw@localhost"),
        (&[("REDIS_TLS_ENABLED", "no"), ("REDIS_CLUSTER_MODE", "0")], "redis://localhost"),
        (&[("REDIS_MODE", "memory")], "memory://"),
        (
            &[("REDIS_MAX_RETRIES", "3"), ("REDIS_CONNECT_TIMEOUT", "250")],
            "redis://localhost?failed_dials_max=3&connect_timeout=250ms",
        ),
        (
            &[("REDIS_URL", "redis://cache"), ("REDIS_PORT", "7000"), ("REDIS_PASSWORD", "pw")],
            "redis://:pw@cache:7000",
        ),
        (
            &[
                ("REDIS_URL", "redis://me:pw@cache:7000/2"),
                ("REDIS_HOST", "CACHE"),
                ("REDIS_PORT", "7000"),
                ("REDIS_USERNAME", "me"),
                ("REDIS_PASSWORD", "pw"),
                ("REDIS_DB", "2"),
                ("REDIS_MODE", "standalone"),
                ("REDIS_TLS_ENABLED", "false"),
            ],
            "redis://me:pw@cache:7000/2",
        ),
        (&[("REDIS_URI", "x"), ("REDIS_URL", "redis://cache")], "redis://cache"),
        (&[("REDIS_URL", "unix:///r.sock"), ("REDIS_DB", "2")], "unix:///r.sock?db=2"),
    ];
    for (variables, url) in same {
        let config = Config::from_vars(variables.iter().copied());
        assert_eq!(config, Config::from_url(url), "{variables:?}");
        assert!(config.is_ok(), "{config:?}");
    }
}

/// Each wrong URL, what its error must name, and where: characters, the last one excluded.
const WRONG_URLS: &[(&str, &str, std::ops::Range<usize>)] = &[
    ("", "URL", 0..0),
    ("localhost", "localhost", 0..9),
    ("localhost:6379", "localhost:6379", 0..14),
    ("redis:6379", "redis:6379", 0..10),
    ("hunter2hunter2", "***", 0..14),
    ("://localhost", "scheme", 0..0),
    ("//localhost", "scheme \"\"", 0..0),
    ("http://localhost:6379", "http", 0..4),
    ("tcp://localhost:6379", "tcp", 0..3),
    ("redis+tls://localhost", "rediss", 0..9),
    ("redis:/localhost", "redis:/", 0..7),
    ("redis//localhost", "redis//", 0..7),
    ("redis:localhost", "redis:", 0..6),
    ("unix:/run/redis.sock", "unix:/", 0..6),
    ("reddis://localhost", "did you mean redis?", 0..6),
    ("redis-cluster://a:1", "did you mean redis+cluster?", 0..13),
    ("ftp://localhost", "ftp", 0..3),
    ("\"redis://localhost\"", "\\\"", 0..1),
    (" redis://localhost", "white space around", 0..1),
    ("redis://localhost\n", "\\n", 17..18),
    ("redis://:pass word@localhost", "***", 13..14),
    ("redis://local host", "percent-encode", 13..14),
    ("redis://local\0host", "\\0", 13..14),
    ("redis://local\r\nhost", "\\r", 13..14),
    ("redis://", "missing host", 8..8),
    ("redis://:6379", "missing host", 8..8),
    ("redis://user:password@", "missing host", 22..22),
    ("redis:///2", "missing host", 8..8),
    ("redis://localhost:", "port \"\"", 18..18),
    ("redis://localhost:0", "port \"0\"", 18..19),
    ("redis://localhost:65536", "65536", 18..23),
    ("redis://localhost:63a79", "63a79", 18..23),
    ("redis://localhost:-1", "-1", 18..20),
    ("redis://localhost:+639", "+639", 18..22),
    ("redis://localhost:six379", "***", 18..24),
    ("redis://user:secretpassword", "@ and the host", 13..27),
    ("redis://::1", "brackets", 8..11),
    ("redis://::1:6379", "::1:6379", 8..16),
    ("redis://[::1", "closing bracket", 8..9),
    ("redis://[::1]6379", "after the closing bracket", 13..14),
    ("redis://[::g]", "::g", 9..12),
    ("redis://[localhost]:6379", "IPv6 address between", 9..18),
    ("redis://a:b:c", "one colon", 8..13),
    ("redis://ho$t", "$", 10..11),
    ("redis://café", "xn--", 11..12),
    ("redis://a:1,b:2", "several are a cluster", 11..12),
    ("redis://user:p@ss@localhost", "%40", 14..15),
    ("redis://user:pa/ss@localhost", "%2F", 15..16),
    ("redis://user:123/ss@localhost", "%2F", 16..17),
    ("redis://user:pa?ss@localhost", "%3F", 15..16),
    ("redis://user:pa#ss@localhost", "%23", 15..16),
    ("redis://localhost#x", "fragment", 17..18),
    ("redis://user:pa%zzword@localhost", "%25", 15..18),
    ("redis://user:%ff%fe@localhost", "UTF-8", 13..19),
    ("redis://user@localhost", "needs a password", 8..12),
    ("redis://user:@localhost", "between : and @", 13..13),
    ("redis://@localhost", "or no @", 8..8),
    ("redis://us%20er:pw@localhost", "white space and NUL", 8..15),
    ("redis://localhost/abc", "abc", 18..21),
    ("redis://localhost/-1", "-1", 18..20),
    ("redis://localhost/2147483648", "2147483648", 18..28),
    ("redis://localhost/99999999999", "99999999999", 18..29),
    ("redis://localhost/2/", "2/", 18..20),
    ("redis://localhost?db=x", "x", 21..22),
    ("redis://localhost/1?db=2", "duplicate", 20..24),
    ("redis://localhost?deadline=5s&deadline=6s", "duplicate", 30..41),
    ("redis://localhost?deadlin=5s", "did you mean deadline?", 18..25),
    ("redis://localhost?Deadline=5s", "Deadline", 18..26),
    ("redis://localhost?timeout=5s", "did you mean deadline?", 18..25),
    ("redis://localhost?colour=red", "colour", 18..24),
    ("redis://localhost?password=hunter2", "before the host", 18..26),
    ("redis://localhost?ssl=true", "TLS", 18..21),
    ("redis://localhost?fallback=x", "only code", 18..26),
    ("redis://localhost?deadline", "a value", 18..26),
    ("redis://localhost?deadline=", "a value", 18..27),
    ("redis://localhost?=5s", "name=value", 18..18),
    ("redis://localhost?deadline=5s&&db=1", "name=value", 30..30),
    ("redis://localhost?deadline=5", "a unit", 27..28),
    ("redis://localhost?deadline=5days", "5days", 27..32),
    ("redis://localhost?deadline=1.5s", "1.5s", 27..31),
    ("redis://localhost?deadline=-5s", "-5s", 27..30),
    ("redis://localhost?deadline=0s", "longer than zero", 27..29),
    ("redis://localhost?deadline=25h", "24h", 27..30),
    ("redis://localhost?deadline=99999999999999999999h", "at most 24h", 27..48),
    ("redis://localhost?deadline=5%", "%25", 28..29),
    ("redis://localhost?client_info=maybe", "true or false", 30..35),
    ("redis://localhost?protocol=3", "auto, resp3, resp2", 27..28),
    ("redis://localhost?maybe_retry=all", "repeatable", 30..33),
    ("redis://localhost?client_name=a%20b", "without spaces", 30..35),
    ("redis://localhost?attempts_max=0", "from 1", 31..32),
    ("redis://localhost?attempts_max=ten", "ten", 31..34),
    ("redis://localhost?fault_percent=101", "from 1 to 100", 32..35),
    ("redis://localhost?queue_bytes_max=64MB", "KiB, MiB, GiB", 34..38),
    ("redis://localhost?queue_bytes_max=99999999999GiB", "fits into memory", 34..48),
    ("redis://localhost?queue_requests_max=0", "from 1", 37..38),
    ("redis://localhost?reply_max=1GiB", "1073741823", 28..32),
    ("redis://localhost?failed_dials_max=many", "or off", 35..39),
    ("redis://localhost?retry_backoff_base=5s", "retry_backoff_max, which is 3s", 37..39),
    ("redis://localhost?retry_backoff_max=1ms", "50ms", 36..39),
    ("unix://", "path", 7..7),
    ("unix:///", "missing path", 7..8),
    ("unix://var/run/redis.sock", "third slash", 7..10),
    ("unix:///me:hunter2@/run/redis.sock", "before the path", 7..34),
    ("unix:///a%00b", "NUL", 7..13),
    ("unix:///%ff", "UTF-8", 7..11),
    ("memory", "expected :// after the scheme, for example memory://", 0..6),
    ("memory://localhost", "no host", 9..18),
    ("memory:///2", "memory://?db=2", 10..11),
    ("memory://:hunter2@", "knows no users", 10..17),
    ("redis+cluster://", "missing node", 16..16),
    ("redis+cluster://a:1,,b:2", "comma", 20..20),
    ("redis+cluster://a:1,b:x", "\"x\"", 22..23),
    ("redis+cluster://a:1/2", "no numbered databases", 20..21),
    ("redis+cluster://a:1?db=2", "no numbered databases", 20..24),
    ("redis+sentinel://a:1", "know the master", 20..20),
    ("redis+sentinel://a:1/", "know the master", 21..21),
    ("redis+sentinel://a:1/main/x", "\"x\"", 26..27),
    ("redis+sentinel://me:pw@a:1,b/main/2", "sentinels are not supported yet", 0..14),
    ("rediss://localhost", "TLS is not supported yet", 0..6),
    ("valkeys://localhost", "valkeys", 0..7),
];

#[test]
fn each_wrong_url_is_told_what_where_and_how_it_would_be_right() {
    let mut messages = BTreeSet::new();
    for (url, named, span) in WRONG_URLS {
        let error = Config::from_url(url).expect_err(url);
        let message = error.to_string();
        assert!(message.contains(named), "{url:?}: {message}");
        let place = Place::Url { characters: span.clone(), variable: None };
        assert_eq!(*error.place(), place, "{url:?}: {message}");
        assert!(message.contains(&place.to_string()), "{url:?}: {message}");
        assert!(!message.contains('\n'), "{message:?}");
        check_example(&error);
        match error.found() {
            Some(found) => assert!(message.contains(&format!("{found:?}")), "{message}"),
            None => assert!(message.contains("***"), "{message}"),
        }
        assert!(messages.insert(message.clone()), "two faults, one message: {message}");
    }
}

/// The example of an error is right itself, or asks for what is not supported yet.
fn check_example(error: &ConfigError) {
    let example = error.example();
    assert!(error.to_string().ends_with(&format!("for example {example}")), "{error}");
    let checked = if example.starts_with("REDIS_") {
        Config::from_vars(example.split(' ').filter_map(|pair| pair.split_once('=')))
    } else if example.contains("://") {
        Config::from_url(example)
    } else {
        return;
    };
    if let Err(wrong) = checked {
        assert!(wrong.is_unsupported(), "the example of {error}\nis wrong: {wrong}");
    }
}

#[test]
fn what_is_not_supported_yet_is_told_apart_from_what_is_wrong() {
    for url in ["rediss://h", "redis+sentinel://h/main", "rediss+cluster://h"] {
        assert!(Config::from_url(url).unwrap_err().is_unsupported(), "{url}");
    }
    for url in ["rediss://h:x", "redis+cluster://h:x", "redis+sentinel://h"] {
        assert!(!Config::from_url(url).unwrap_err().is_unsupported(), "{url}");
    }
}

type WrongVariables = (&'static [(&'static str, &'static str)], &'static str, &'static str);

/// Each wrong set of variables, the one that the error is in, and what it must name besides.
const WRONG_VARIABLES: &[WrongVariables] = &[
    (&[("REDIS_PASWORD", "hunter2")], "REDIS_PASWORD", "did you mean REDIS_PASSWORD"),
    (&[("REDIS_URI", "redis://h")], "REDIS_URI", "did you mean REDIS_URL"),
    (&[("REDIS_MODE", "single")], "REDIS_MODE", "single"),
    (&[("REDIS_MODE", "sentinel")], "REDIS_MODE", "not supported yet"),
    (&[("REDIS_CLUSTER_MODE", "ja")], "REDIS_CLUSTER_MODE", "true or false"),
    (&[("REDIS_HOST", "h:6379")], "REDIS_HOST", "REDIS_PORT"),
    (&[("REDIS_HOST", "redis://:hunter2@h")], "REDIS_HOST", "REDIS_URL"),
    (&[("REDIS_HOST", "a b")], "REDIS_HOST", "\" \""),
    (&[("REDIS_PORT", "0")], "REDIS_PORT", "\"0\""),
    (&[("REDIS_PORT", "65536")], "REDIS_PORT", "65536"),
    (&[("REDIS_PORT", "port")], "REDIS_PORT", "port"),
    (&[("REDIS_DB", "-1")], "REDIS_DB", "-1"),
    (&[("REDIS_DB", "4294967296")], "REDIS_DB", "4294967296"),
    (&[("REDIS_TLS_ENABLED", "maybe")], "REDIS_TLS_ENABLED", "maybe"),
    (&[("REDIS_TLS_ENABLED", "true")], "REDIS_TLS_ENABLED", "TLS is not supported yet"),
    (&[("REDIS_MAX_RETRIES", "many")], "REDIS_MAX_RETRIES", "many"),
    (&[("REDIS_CONNECT_TIMEOUT", "2s")], "REDIS_CONNECT_TIMEOUT", "milliseconds"),
    (&[("REDIS_CONNECT_TIMEOUT", "0")], "REDIS_CONNECT_TIMEOUT", "from 1"),
    (&[("REDIS_USERNAME", "me")], "REDIS_USERNAME", "needs a password"),
    (&[("REDIS_MODE", "memory"), ("REDIS_HOST", "h")], "REDIS_HOST", "example REDIS_MODE=memory"),
    (&[("REDIS_MODE", "memory"), ("REDIS_PASSWORD", "hunter2")], "REDIS_PASSWORD", "no users"),
    (
        &[("REDIS_MODE", "standalone"), ("REDIS_CLUSTER_MODE", "true")],
        "REDIS_CLUSTER_MODE",
        "REDIS_MODE",
    ),
    (
        &[("REDIS_MODE", "standalone"), ("REDIS_CLUSTER_NODES", "a:1")],
        "REDIS_CLUSTER_NODES",
        "REDIS_MODE",
    ),
    (&[("REDIS_CLUSTER_NODES", "a:1"), ("REDIS_HOST", "b")], "REDIS_HOST", "REDIS_CLUSTER_NODES"),
    (
        &[("REDIS_CLUSTER_NODES", "127.0.0.1:7411"), ("REDIS_HOST", "127.0.0.1")],
        "REDIS_HOST",
        "\"127.0.0.1\" in REDIS_HOST: REDIS_CLUSTER_NODES has it with another port",
    ),
    (
        &[("REDIS_CLUSTER_NODES", "a:1"), ("REDIS_DB", "2")],
        "REDIS_DB",
        "\"2\" in REDIS_DB: expected 0, the only database that clusters have, for example REDIS_DB=0",
    ),
    (&[("REDIS_URL", "redis://a"), ("REDIS_HOST", "b")], "REDIS_HOST", "REDIS_URL"),
    (&[("REDIS_URL", "redis://a:1"), ("REDIS_PORT", "2")], "REDIS_PORT", "REDIS_URL"),
    (&[("REDIS_URL", "redis://a/1"), ("REDIS_DB", "2")], "REDIS_DB", "REDIS_URL"),
    (&[("REDIS_URL", "redis://a"), ("REDIS_MODE", "cluster")], "REDIS_MODE", "REDIS_URL"),
    (&[("REDIS_URL", "redis://a"), ("REDIS_TLS_ENABLED", "1")], "REDIS_TLS_ENABLED", "REDIS_URL"),
    (&[("REDIS_URL", "redis://a"), ("REDIS_CLUSTER_NODES", "a:1")], "REDIS_CLUSTER_NODES", "URL"),
    (&[("REDIS_URL", "redis://a"), ("REDIS_CLUSTER_MODE", "1")], "REDIS_CLUSTER_MODE", "REDIS_URL"),
    (
        &[("REDIS_URL", "redis://:hunter2@a"), ("REDIS_PASSWORD", "hunter3")],
        "REDIS_PASSWORD",
        "REDIS_URL",
    ),
    (
        &[("REDIS_URL", "redis://me:hunter2@a"), ("REDIS_USERNAME", "you")],
        "REDIS_USERNAME",
        "REDIS_URL",
    ),
    (
        &[("REDIS_URL", "redis://a?connect_timeout=1s"), ("REDIS_CONNECT_TIMEOUT", "2")],
        "REDIS_CONNECT_TIMEOUT",
        "REDIS_URL",
    ),
    (
        &[("REDIS_URL", "redis://a?failed_dials_max=1"), ("REDIS_MAX_RETRIES", "2")],
        "REDIS_MAX_RETRIES",
        "REDIS_URL",
    ),
    (&[("REDIS_URL", "memory://"), ("REDIS_HOST", "h")], "REDIS_HOST", "REDIS_URL"),
    (&[("REDIS_DB", "1"), ("REDIS_DB", "2")], "REDIS_DB", "twice"),
];

#[test]
fn wrong_variables_are_told_what_where_and_how_it_would_be_right() {
    let mut messages = BTreeSet::new();
    for (variables, name, named) in WRONG_VARIABLES {
        let error = Config::from_vars(variables.iter().copied()).expect_err(name);
        let message = error.to_string();
        assert_eq!(*error.place(), Place::Variable((*name).to_owned()), "{message}");
        assert!(message.contains(name) && message.contains(named), "{variables:?}: {message}");
        assert!(!message.contains("hunter"), "{message}");
        check_example(&error);
        assert!(messages.insert(message.clone()), "two faults, one message: {message}");
    }
    let error = Config::from_vars([("REDIS_URL", "redis+cluster://a:1"), ("REDIS_DB", "2")]);
    assert_eq!(*error.unwrap_err().place(), Place::Variable("REDIS_DB".to_owned()));
    let error = Config::from_vars([("REDIS_URL", "redis://h:x")]).unwrap_err().to_string();
    assert!(error.contains("\"x\" at character 10 of REDIS_URL"), "{error}");
    let error = Config::from_vars([("REDIS_CLUSTER_NODES", "a:1,:hunter2")]).unwrap_err();
    assert!(error.to_string().contains("at character 4 of REDIS_CLUSTER_NODES"), "{error}");
    check_example(&error);
}

#[test]
fn a_host_is_shown_as_it_was_written_where_it_is_surely_an_address() {
    let found = |host| Config::from_vars([("REDIS_HOST", host)]).map_err(|e| e.to_string());
    for host in ["127.0.0.1:7411", "cache.internal:6379", "[::1]:6379", "[fe80::1]:7000"] {
        let told = found(host).expect_err(host);
        assert!(told.starts_with(&format!("invalid host {host:?} in REDIS_HOST")), "{told}");
        assert!(told.ends_with("for example REDIS_HOST=localhost REDIS_PORT=6379"), "{told}");
    }
    for host in ["me:hunter2", ":hunter2", "me:hunter2@h:1", "Hunter2:", "hu:n2", "hunter2:70000"] {
        let told = found(host).expect_err(host);
        assert!(told.starts_with("invalid host \":\" in REDIS_HOST"), "{told}");
    }
    let apart = |host| {
        let variables = [("REDIS_CLUSTER_NODES", "a:1"), ("REDIS_HOST", host)];
        Config::from_vars(variables).expect_err("elsewhere").to_string()
    };
    assert!(apart("10.20.30.40").contains("\"10.20.30.40\""));
    assert!(apart("2001:db8::7").contains("\"2001:db8::7\""));
    assert!(apart("Hunter2.Hunter2").contains("contradictory host *** in REDIS_HOST"));
    let error = Config::from_vars([("REDIS_HOST", "h:7411"), ("REDIS_PASSWORD", "7411")]);
    assert!(!error.expect_err("a port").to_string().contains("7411"));
}

#[test]
fn what_can_be_used_instead_is_named_in_full() {
    for url in ["rediss://h", "valkeys+cluster://h", "redis+sentinel://h/main"] {
        let error = Config::from_url(url).expect_err("not supported yet").to_string();
        let (_, told) = error.split_once("not supported yet; ").expect("what is");
        let (told, _) = told.split_once(" are, for").expect("a sentence");
        let schemes: Vec<_> = told.split(", ").flat_map(|both| both.split(" and ")).collect();
        assert!(schemes.contains(&"redis+cluster://") && schemes.len() == 8, "{schemes:?}");
        for scheme in schemes {
            let rest = match scheme {
                _ if scheme.contains("unix") => "/run/redis.sock",
                "memory://" => "",
                _ => "h",
            };
            assert!(Config::from_url(&format!("{scheme}{rest}")).is_ok(), "{scheme}");
        }
    }
}

#[test]
fn a_url_without_credentials_takes_them_from_the_variables_only_where_they_make_sense() {
    let error = Config::from_vars([("REDIS_URL", "memory://"), ("REDIS_PASSWORD", "hunter2")]);
    let message = error.unwrap_err().to_string();
    assert!(message.contains("in REDIS_PASSWORD: the embedded store knows no users"), "{message}");
}

#[test]
fn wrong_settings_name_the_method_that_set_them() {
    let base = Config::default;
    let zero = Duration::ZERO;
    let wrong: Vec<(Config, &str, &str)> = vec![
        (Config::standalone("", 1), "deployment", "name or an address"),
        (Config::standalone("a b", 1), "deployment", "letters"),
        (Config::standalone("a\r\nb", 1), "deployment", "\\r"),
        (Config::standalone("a:b", 1), "deployment", "IPv6"),
        (Config::standalone("h", 0), "deployment", "65535"),
        (Config::unix(""), "deployment", "path"),
        (Config::unix("/a\0b"), "deployment", "NUL"),
        (Config::unix("/x".repeat(60)), "deployment", "107"),
        (base().username("me"), "password", "needs a password"),
        (base().username("a b").password("pw"), "username", "white space"),
        (base().password(""), "password", "at least one"),
        (Config::memory().password("hunter2"), "password", "no users"),
        (Config::memory().username("me").password("hunter2"), "username", "no users"),
        (base().database(u32::MAX), "database", "2147483647"),
        (Config::cluster([Endpoint::tcp("h", 1)]).database(2), "database", "have, for example 0"),
        (base().client_name("a b"), "client_name", "a b"),
        (base().client_name(""), "client_name", "\"\""),
        (base().deadline(zero), "deadline", "longer than zero"),
        (base().connect_timeout(Duration::MAX), "connect_timeout", "24h"),
        (base().ping_interval(zero), "ping_interval", "0s"),
        (base().tcp_keepalive(zero), "tcp_keepalive", "0s"),
        (base().probes(0), "probes", "from 1"),
        (base().dial_backoff_base(zero), "dial_backoff_base", "0s"),
        (base().dial_backoff_max(Duration::from_millis(1)), "dial_backoff_base", "1ms"),
        (base().probe_interval(Duration::from_secs(60)), "probe_interval", "30s"),
        (in_memory("*").fallback(Fallback::fail("wallet:*")), "fallback", "wallet:*"),
        (in_memory("a:*").fallback(Fallback::wait("a:b:*")), "fallback", "a:b:*"),
        (in_memory("a[bc]").fallback(Fallback::miss("a[bc]")), "fallback", "a[bc]"),
    ];
    let mut messages = BTreeSet::new();
    for (config, method, named) in wrong {
        let error = config.validate().expect_err(method);
        let message = error.to_string();
        assert_eq!(*error.place(), Place::Builder(method), "{message}");
        assert!(message.contains(named), "{message}");
        assert!(!message.contains("hunter"), "{message}");
        check_example(&error);
        assert!(messages.insert(message.clone()), "two faults, one message: {message}");
    }
    let mut config = base();
    config.tls = true;
    assert!(config.validate().unwrap_err().is_unsupported());
    config.deployment = Deployment::Memory;
    assert!(!config.validate().unwrap_err().is_unsupported());
    config.deployment = Deployment::Cluster(Vec::new());
    assert!(!config.validate().unwrap_err().is_unsupported());
}

fn in_memory(pattern: &str) -> Config {
    Config::default().fallback(Fallback::memory(pattern, Policy::Discard))
}

#[test]
fn a_rule_that_some_key_gets_to_is_none_to_complain_of() {
    for config in [
        Config::default().fallback(Fallback::fail("wallet:*")).fallback(Fallback::miss("*")),
        in_memory("a:*").fallback(Fallback::fail("a*")),
        in_memory("a:b").fallback(Fallback::fail("a:*")),
        in_memory("a?").fallback(Fallback::fail("a:")),
        // It changes nothing, and nobody is misled.
        in_memory("*").fallback(Fallback::memory("a:*", Policy::Discard)),
    ] {
        assert_eq!(config.validate(), Ok(()), "{:?}", config.fallbacks);
    }
}

#[test]
fn a_schedule_is_the_callers_own() {
    let config = Config::default().retry_schedule(|attempts| Duration::from_secs(attempts.into()));
    assert_eq!(config.retry.schedule.as_ref().unwrap().delay(3), Duration::from_secs(3));
    assert_eq!(config, config.clone());
    assert_ne!(config, Config::default());
    assert!(format!("{config:?}").contains("retry_schedule"));
}

#[cfg(unix)]
#[test]
fn a_variable_that_is_no_text_is_an_error_and_not_passed_over() {
    use std::{ffi::OsString, os::unix::ffi::OsStringExt};
    let no_text = OsString::from_vec(vec![b'h', 0xff]);
    let error = Config::from_vars([(OsString::from("REDIS_PASSWORD"), no_text.clone())]);
    let error = error.expect_err("half a password is none").to_string();
    for piece in ["REDIS_PASSWORD", "expected UTF-8", "for example REDIS_PASSWORD="] {
        assert!(error.contains(piece), "{error}");
    }
    assert!(Config::from_vars([(OsString::from("PATH"), no_text)]).is_ok(), "none of ours");
}
