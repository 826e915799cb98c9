//! Any configuration, and any slip of whoever writes one: what holds for all of them.

use std::time::Duration;

use proptest::prelude::*;
use unfazed_core::config::{Config, Deployment, MaybeRetry, PingInterval, ProtocolChoice};

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_000) })]

    #[test]
    fn a_url_says_again_what_it_was_made_from(config in configs()) {
        // A path of many long characters may be longer than a socket address holds.
        prop_assume!(config.to_url().len() < 107 || config.validate().is_ok());
        prop_assert_eq!(config.validate(), Ok(()));
        let url = config.to_url_with_secrets();
        prop_assert_eq!(Config::from_url(&url), Ok(config), "{}", url);
    }

    #[test]
    fn no_text_about_a_url_shows_its_password(
        password in passwords(),
        scheme in prop::sample::select(vec![
            "redis", "rediss", "valkey", "redis+cluster", "redis+sentinel", "redis+unix", "memory",
        ]),
        user in prop::sample::select(vec!["", "user"]),
        encode in any::<bool>(),
        tail in prop::sample::select(vec![
            "cache.internal:7000", "cache", "/run/x.sock", "a:1,b:2/main", "h?client_name=a@b", "",
        ]),
        slipped in proptest::option::of(slips()),
    ) {
        let written = if encode {
            password.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>()
        } else {
            password.clone()
        };
        let url = format!("{scheme}://{user}:{written}@{tail}");
        let url = slipped.map_or(url.clone(), |slipped| slip(&url, &slipped));
        // Without the first colon, what stands before the next is the user's name, which is no secret.
        let secret = url.split_once("://").and_then(|(_, rest)| rest.strip_prefix(user));
        let is_misread = secret.is_some_and(|rest| !rest.starts_with(':') && written.contains(':'));
        prop_assume!(!is_misread);
        let variables = Config::from_vars([("REDIS_URL", url.as_str()), ("REDIS_HOST", "other")]);
        for outcome in [Config::from_url(&url), variables] {
            let texts = match outcome {
                Ok(config) => format!("{config} {config:?} {config:#?} {}", config.to_url()),
                Err(error) => format!("{error} {error:?} {error:#?} {:?}", error.found()),
            };
            assert_no_trace(&texts, &password);
            if encode {
                assert_no_trace(&texts, &written);
            }
        }
    }

    #[test]
    fn no_text_about_variables_shows_their_password(
        password in passwords(),
        name in prop::sample::select(vec!["REDIS_URL", "REDIS_MODE", "REDIS_HOST", "REDIS_PORT",
            "REDIS_DB", "REDIS_TLS_ENABLED", "REDIS_CLUSTER_NODES", "REDIS_USERNAME"]),
    ) {
        // The password is where it belongs, and by mistake in another variable too.
        let variables = [("REDIS_PASSWORD", &password), (name, &password)];
        if let Err(error) = Config::from_vars(variables) {
            assert_no_trace(&format!("{error} {error:?}"), &password);
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,40}", tail in "[:/@?#%&=\\[\\],a0é]{0,20}") {
        let _ = Config::from_url(&text);
        for scheme in ["redis", "redis+sentinel", "redis+cluster", "unix", "memory"] {
            let _ = Config::from_url(&format!("{scheme}://{tail}"));
        }
        let _ = Config::from_vars([("REDIS_CLUSTER_NODES", &tail), ("REDIS_HOST", &text)]);
    }
}

fn spans() -> impl Strategy<Value = Duration> {
    prop_oneof![
        (1..86_400u64).prop_map(Duration::from_secs),
        (1..86_400_000u64).prop_map(Duration::from_millis),
        (1..1_000_000u64).prop_map(Duration::from_nanos),
    ]
}

fn places() -> impl Strategy<Value = Config> {
    prop_oneof![
        ("[a-z][a-z0-9_.-]{0,30}", 1..=u16::MAX)
            .prop_map(|(host, port)| Config::standalone(host, port)),
        (any::<[u16; 8]>(), 1..=u16::MAX).prop_map(|(groups, port)| {
            Config::standalone(std::net::Ipv6Addr::from(groups).to_string(), port)
        }),
        "/[^\0/]\\PC{0,20}".prop_map(Config::unix),
        Just(Config::memory()),
    ]
}

prop_compose! {
    fn configs()(
        config in places(),
        (username, password) in ("[a-zA-Z0-9@:/%é?#]{0,10}", "\\PC{0,20}"),
        (database, client_name) in (0..=i32::MAX as u32, proptest::option::of("[!-~]{1,20}")),
        protocol in prop::sample::select(vec![
            ProtocolChoice::Auto, ProtocolChoice::Resp3, ProtocolChoice::Resp2,
        ]),
        maybe in prop::sample::select(vec![
            MaybeRetry::Never, MaybeRetry::Repeatable, MaybeRetry::Idempotent, MaybeRetry::Always,
        ]),
        (ping, keepalive) in (proptest::option::of(spans()), proptest::option::of(spans())),
        times in prop::array::uniform10(spans()),
        counts in prop::array::uniform10(1..1_000u32),
        sizes in prop::array::uniform10(64..1usize << 20),
        flags in prop::array::uniform4(any::<bool>()),
        failed in proptest::option::of(any::<u32>()),
    ) -> Config {
        let mut config = config;
        if !password.is_empty() && config.deployment != Deployment::Memory {
            config = config.password(password);
            if !username.is_empty() {
                config = config.username(username);
            }
        }
        config.client_name = client_name;
        let ordered = |a: Duration, b: Duration| (a.min(b), a.max(b));
        let (retry, dial, probe) =
            (ordered(times[0], times[1]), ordered(times[2], times[3]), ordered(times[4], times[5]));
        let ping = if flags[3] { PingInterval::ResponseTimeout } else { ping.into() };
        config
            .database(database).protocol(protocol).maybe_retry(maybe)
            .ping_interval(ping).tcp_keepalive(keepalive)
            .deadline(times[6]).connect_timeout(times[7]).response_timeout(times[8])
            .slow_response_timeout(times[9])
            .retry_backoff_base(retry.0).retry_backoff_max(retry.1)
            .dial_backoff_base(dial.0).dial_backoff_max(dial.1)
            .probe_interval(probe.0).probe_interval_max(probe.1)
            .probe_gap(times[6]).retrip_window(times[7]).fault_window(times[8])
            .barrier_max(Duration::ZERO).down_event_after(times[9])
            .attempts_max(counts[0]).redirects_max(counts[1]).probes(counts[2])
            .fault_outcomes_min(counts[3]).fault_percent(counts[4] % 100 + 1)
            .dial_jitter_percent(counts[5] % 101).probe_jitter_percent(counts[6] % 101)
            .failed_dials_max(failed)
            .queue_requests_max(sizes[0]).queue_bytes_max(sizes[1]).events_max(sizes[2])
            .bulk_max(sizes[3]).line_max(sizes[4]).reply_max(1 << 20)
            .elements_max(sizes[5]).depth_max(sizes[6] % 1_000 + 1)
            .memory_entries_max(sizes[7]).memory_bytes_max(sizes[8])
            .shadow_value_max(sizes[8] / 2)
            .journal_entries_max(sizes[9]).journal_bytes_max(sizes[0])
            .fail_fast(flags[0]).client_info(flags[1]).tcp_nodelay(flags[2])
    }
}

/// One slip of whoever writes a URL.
#[derive(Clone, Debug)]
enum Slip {
    Delete(prop::sample::Index),
    Insert(prop::sample::Index, char),
    Replace(prop::sample::Index, char),
    Swap(prop::sample::Index),
    Double(prop::sample::Index),
    Truncate(prop::sample::Index),
    Behead(prop::sample::Index),
    Append(&'static str),
}

fn slips() -> impl Strategy<Value = Slip> {
    let index = any::<prop::sample::Index>;
    let marks = || {
        let marks = ":/@?#%&=[], \n\0\"xé0".chars().collect::<Vec<_>>();
        prop_oneof![prop::sample::select(marks), any::<char>()]
    };
    let tails =
        [":x", "/abc", "?deadline=5", "?nonsense=1", "?db=1&db=1", "#", "%zz", "/1/2", ":0"];
    prop_oneof![
        index().prop_map(Slip::Delete),
        (index(), marks()).prop_map(|(at, c)| Slip::Insert(at, c)),
        (index(), marks()).prop_map(|(at, c)| Slip::Replace(at, c)),
        index().prop_map(Slip::Swap),
        index().prop_map(Slip::Double),
        index().prop_map(Slip::Truncate),
        index().prop_map(Slip::Behead),
        prop::sample::select(tails.to_vec()).prop_map(Slip::Append),
    ]
}

fn slip(url: &str, slip: &Slip) -> String {
    let mut chars: Vec<char> = url.chars().collect();
    match slip {
        Slip::Delete(at) => drop(chars.remove(at.index(chars.len()))),
        Slip::Insert(at, c) => chars.insert(at.index(chars.len() + 1), *c),
        Slip::Replace(at, c) => {
            let at = at.index(chars.len());
            chars[at] = *c;
        }
        Slip::Swap(at) => {
            let at = at.index(chars.len() - 1);
            chars.swap(at, at + 1);
        }
        Slip::Double(at) => {
            let at = at.index(chars.len());
            chars.insert(at, chars[at]);
        }
        Slip::Truncate(at) => chars.truncate(at.index(chars.len())),
        Slip::Behead(at) => drop(chars.drain(..at.index(chars.len()))),
        Slip::Append(tail) => chars.extend(tail.chars()),
    }
    chars.into_iter().collect()
}

/// Fails if six characters of the password in a row can be read in `text`.
fn assert_no_trace(text: &str, password: &str) {
    let chars: Vec<char> = password.chars().collect();
    for window in chars.windows(6) {
        let window: String = window.iter().collect();
        assert!(!text.contains(&window), "{window:?} of the password is in: {text}");
    }
}

/// Passwords as good generators make them, and as people leave them in URLs.
fn passwords() -> impl Strategy<Value = String> {
    prop_oneof!["[A-Za-z0-9]{12,24}", "[!-~]{12,24}", "\\d{8,20}", "[a-zA-Z0-9/@#?:%]{12,20}"]
}
