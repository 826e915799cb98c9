//! What cannot work, whoever wrote it.

use std::path::Path;

use super::endpoint::{self, BadHost};
use super::error::Verdict;
use super::parameters::PARAMETERS;
use super::units::show_duration;
use super::{Config, ConfigError, Deployment, Endpoint, Place, URL_EXAMPLE, limits, url};
use crate::fallback::{SharedStore as Store, glob::Pattern};

pub(super) fn validate(config: &Config) -> Result<(), ConfigError> {
    deployment(config)?;
    credentials(config)?;
    for parameter in PARAMETERS {
        parameter.check(config).map_err(|advice| {
            ConfigError::new(Verdict::Invalid, parameter.method())
                .with_found(parameter.show(config))
                .with_advice(advice)
                .with_example(parameter.example)
                .at(Place::Builder(parameter.method()))
        })?;
    }
    pairs(config)?;
    fallbacks(config)?;
    supported(config)
}

fn deployment(config: &Config) -> Result<(), ConfigError> {
    let invalid = |setting: &'static str, found: &str, advice: &'static str| {
        let error = ConfigError::new(Verdict::Invalid, setting).with_found(found);
        Err(error.with_advice(advice).at(Place::Builder("deployment")))
    };
    let endpoints = match &config.deployment {
        Deployment::Standalone(endpoint) => std::slice::from_ref(endpoint),
        Deployment::Cluster(nodes) => nodes.as_slice(),
        Deployment::Sentinel { service, .. } if service.is_empty() => {
            return invalid("service", "", "expected the name of the master");
        }
        Deployment::Sentinel { sentinels, .. } => sentinels.as_slice(),
        Deployment::Memory => return Ok(()),
        Deployment::Store(store) => return bounds_of(store, config),
    };
    if let Deployment::Cluster(nodes) = &config.deployment {
        if nodes.iter().any(|node| matches!(node, Endpoint::Unix(_))) {
            return invalid(
                "nodes",
                "unix",
                "expected TCP addresses: nodes of a cluster name each other by those",
            );
        }
        if config.database != 0 {
            return Err(ConfigError::new(Verdict::Invalid, "database")
                .with_found(config.database.to_string())
                .with_advice("expected 0, the only database that clusters have")
                .with_example("0")
                .at(Place::Builder("database")));
        }
    }
    if endpoints.is_empty() {
        return invalid("nodes", "", "expected at least one address");
    }
    for endpoint in endpoints {
        match endpoint {
            Endpoint::Tcp { port: 0, .. } => {
                return invalid("port", "0", "expected a number from 1 to 65535");
            }
            Endpoint::Tcp { host, .. } => {
                if let Err(BadHost { start, end, advice }) = endpoint::check_host(host) {
                    return invalid("host", &host[start..end], advice);
                }
            }
            Endpoint::Unix(path) => {
                if let Err(advice) = endpoint::check_path(path) {
                    return invalid("path", &shown_path(path), advice)
                        .map_err(|error| error.with_example("unix:///run/redis.sock"));
                }
            }
        }
    }
    Ok(())
}

/// A store that others hold as well was given its bounds when it was made.
fn bounds_of(store: &Store, config: &Config) -> Result<(), ConfigError> {
    let (entries_max, bytes_max) = limits::of_store(store);
    let bounds = [
        ("memory_entries_max", config.memory.entries_max, entries_max),
        ("memory_bytes_max", config.memory.bytes_max, bytes_max),
    ];
    match bounds.into_iter().find(|(_, said, known)| said != known) {
        None => Ok(()),
        Some((name, said, known)) => Err(ConfigError::new(Verdict::Contradictory, name)
            .with_found(said.to_string())
            .with_advice(format!("the store has bounds of its own, {known} here"))
            .with_example("Store::with_bounds")
            .at(Place::Builder(name))),
    }
}

fn shown_path(path: &Path) -> String {
    path.display().to_string()
}

fn credentials(config: &Config) -> Result<(), ConfigError> {
    let error = |verdict, setting: &'static str, advice: &'static str| {
        ConfigError::new(verdict, setting)
            .with_advice(advice)
            .with_example("redis://user:password@localhost:6379")
            .at(Place::Builder(setting))
    };
    if config.deployment.is_embedded() {
        let advice = "the embedded store knows no users: leave out username and password";
        let setting = match (&config.username, &config.password) {
            (Some(_), _) => "username",
            (None, Some(_)) => "password",
            (None, None) => return Ok(()),
        };
        return Err(error(Verdict::Contradictory, setting, advice).with_example("memory://"));
    }
    if let Some(username) = &config.username {
        if username.is_empty() || username.contains(|c: char| c.is_whitespace() || c == '\0') {
            return Err(error(
                Verdict::Invalid,
                "username",
                "expected a name without white space and NUL",
            ));
        }
        if config.password.is_none() {
            return Err(error(
                Verdict::Missing,
                "password",
                "a username needs a password; a password alone goes behind a colon, \
                 as in redis://:password@localhost",
            )
            .with_found(""));
        }
    }
    match &config.password {
        Some(password) if password.expose().is_empty() => Err(error(
            Verdict::Invalid,
            "password",
            "expected at least one character; leave the password out where there is none",
        )
        .with_found("")),
        _ => Ok(()),
    }
}

/// A rule that no key ever gets to, because one before it takes them all and does something else: keys
/// that were to fail would be answered from memory.
fn fallbacks(config: &Config) -> Result<(), ConfigError> {
    let patterns: Vec<_> =
        config.fallbacks.iter().map(|rule| Pattern::new(rule.pattern().as_bytes())).collect();
    for (at, rule) in config.fallbacks.iter().enumerate() {
        let covers = |before: &usize| patterns[*before].plainly_covers(rule.pattern().as_bytes());
        let Some(first) = (0..at).find(covers).map(|before| &config.fallbacks[before]) else {
            continue;
        };
        if first.mode() != rule.mode() {
            return Err(ConfigError::new(Verdict::Contradictory, "fallback")
                .with_found(rule.pattern())
                .with_advice(format!(
                    "the rule for {:?} before it takes all of its keys, and the first that matches \
                     counts; declare it before that one",
                    first.pattern()
                ))
                .with_example("Fallback::fail(\"wallet:*\") before Fallback::miss(\"*\")")
                .at(Place::Builder("fallback")));
        }
    }
    Ok(())
}

/// Delays that begin above their own bound. Sizes of which one makes the other pointless are left
/// alone: the smaller one simply counts, and lowering one need not mean lowering all.
fn pairs(config: &Config) -> Result<(), ConfigError> {
    let Config { retry, dial, breaker, .. } = config;
    let spans = [
        ("retry_backoff_base", retry.backoff.base, "retry_backoff_max", retry.backoff.max),
        ("dial_backoff_base", dial.backoff.base, "dial_backoff_max", dial.backoff.max),
        (
            "probe_interval",
            breaker.probe_interval,
            "probe_interval_max",
            breaker.probe_interval_max,
        ),
    ];
    for (name, value, bound_name, bound) in spans {
        if value > bound {
            return Err(exceeds(name, &show_duration(value), bound_name, &show_duration(bound)));
        }
    }
    Ok(())
}

fn exceeds(name: &'static str, value: &str, bound_name: &str, bound: &str) -> ConfigError {
    ConfigError::new(Verdict::Contradictory, name)
        .with_found(value)
        .with_advice(format!("expected at most {bound_name}, which is {bound}"))
        .with_example(format!("{URL_EXAMPLE}?{name}={value}&{bound_name}={value}"))
        .at(Place::Builder(name))
}

/// Deployments that are understood and cannot be used yet.
fn supported(config: &Config) -> Result<(), ConfigError> {
    let (setting, found, what) = match &config.deployment {
        Deployment::Sentinel { .. } => ("deployment", "sentinel", "sentinels are"),
        Deployment::Memory | Deployment::Store(_) | Deployment::Standalone(Endpoint::Unix(_))
            if config.tls =>
        {
            return Err(ConfigError::new(Verdict::Contradictory, "tls")
                .with_found("true")
                .with_advice("only TCP connections can be encrypted")
                .with_example("rediss://localhost:6379")
                .at(Place::Builder("tls")));
        }
        _ if config.tls => ("tls", "true", "TLS is"),
        _ => return Ok(()),
    };
    Err(ConfigError::new(Verdict::Unsupported, setting)
        .with_found(found)
        .with_advice(format!("{what} not supported yet; {} are", url::supported_schemes()))
        .with_example(URL_EXAMPLE)
        .at(Place::Builder(setting)))
}
