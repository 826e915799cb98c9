//! Variables.

use std::ffi::OsStr;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::endpoint::{self, BadHost, PORT_DEFAULT};
use super::error::{Verdict, distance, showable};
use super::url::{self, Parsed};
use super::{Config, ConfigError, Deployment, Endpoint, Place, Secret, URL_EXAMPLE, units};

/// Each variable, what it sets, and a value that is right.
const KNOWN: [(&str, &str, &str); 12] = [
    ("REDIS_URL", "URL", URL_EXAMPLE),
    ("REDIS_MODE", "mode", "standalone"),
    ("REDIS_HOST", "host", "localhost"),
    ("REDIS_PORT", "port", "6379"),
    ("REDIS_USERNAME", "username", "app"),
    ("REDIS_PASSWORD", "password", "correct-horse"),
    ("REDIS_DB", "database", "2"),
    ("REDIS_TLS_ENABLED", "TLS", "false"),
    ("REDIS_CLUSTER_NODES", "nodes", "node1:6379,node2:6379"),
    ("REDIS_CLUSTER_MODE", "cluster mode", "false"),
    ("REDIS_MAX_RETRIES", "failed_dials_max", "5"),
    ("REDIS_CONNECT_TIMEOUT", "connect_timeout", "2000"),
];

/// The variables that were set, and not empty.
#[derive(Default)]
pub(super) struct Variables {
    set: Vec<(&'static str, String)>,
    /// A name that is not one of ours, and the one that it resembles.
    near_misses: Vec<(String, &'static str)>,
}

impl Variables {
    /// Takes one variable in; those that are none of ours are passed over.
    pub(super) fn add(&mut self, name: &OsStr, value: &OsStr) -> Result<(), ConfigError> {
        let Some(name) = name.to_str().filter(|name| name.starts_with("REDIS_")) else {
            return Ok(());
        };
        if value.is_empty() {
            return Ok(());
        }
        let Some((known, ..)) = KNOWN.iter().find(|(known, ..)| *known == name) else {
            let near = KNOWN.iter().find(|(known, ..)| distance(known, name) == 1);
            if let Some((known, ..)) = near {
                self.near_misses.push((name.to_owned(), known));
            }
            return Ok(());
        };
        let Some(value) = value.to_str() else {
            return Err(wrong(Verdict::Invalid, known, "").with_advice("expected UTF-8"));
        };
        if *known == "REDIS_PORT" && value.starts_with("tcp://") {
            return Ok(());
        }
        match self.get(known) {
            Some(earlier) if earlier != value => {
                let mut error = wrong(Verdict::Duplicate, known, value);
                error = error.with_advice("it was given twice, with different values");
                Err(error)
            }
            Some(_) => Ok(()),
            None => {
                self.set.push((known, value.to_owned()));
                Ok(())
            }
        }
    }

    /// What all of them say together.
    pub(super) fn config(&self) -> Result<Config, ConfigError> {
        self.read().map_err(|error| self.without_password(error))
    }

    fn read(&self) -> Result<Config, ConfigError> {
        for (name, known) in &self.near_misses {
            if self.get(known).is_none() {
                return Err(ConfigError::new(Verdict::Unknown, "variable")
                    .with_found(name.clone())
                    .with_advice(format!("did you mean {known}, which is not set?"))
                    .with_example(example(known))
                    .at(Place::Variable(name.clone())));
            }
        }
        let text = self.get("REDIS_URL");
        let in_url = |error: ConfigError| located(error, "REDIS_URL");
        let parsed = text.map(url::parse).transpose().map_err(in_url)?;
        let Some(mut parsed) = parsed else {
            let config = Config { deployment: self.deployment()?, ..Config::default() };
            let config = self.fill(config, None)?;
            config.validate().map_err(|error| self.to_variable(error))?;
            return Ok(config);
        };
        parsed.config = self.fill(parsed.config.clone(), Some(&parsed))?;
        parsed.validated().map_err(|error| match error.place() {
            Place::Builder(_) => self.to_variable(error),
            _ => in_url(error),
        })
    }

    /// Where the variables alone lead.
    fn deployment(&self) -> Result<Deployment, ConfigError> {
        let mode = match (self.mode()?, self.cluster_mode()?) {
            (Some("cluster") | None, Some(true)) => "cluster",
            (Some(mode), Some(true)) => {
                return Err(self.contradiction("REDIS_CLUSTER_MODE", "REDIS_MODE", mode));
            }
            (Some("cluster"), Some(false)) => {
                return Err(self.contradiction("REDIS_CLUSTER_MODE", "REDIS_MODE", "cluster"));
            }
            (None, None) if self.get("REDIS_CLUSTER_NODES").is_some() => "cluster",
            (mode, _) => mode.unwrap_or("standalone"),
        };
        if mode == "memory" {
            for name in ["REDIS_HOST", "REDIS_PORT", "REDIS_CLUSTER_NODES"] {
                if self.get(name).is_some() {
                    return Err(self.contradiction(name, "REDIS_MODE", "memory"));
                }
            }
            return Ok(Deployment::Memory);
        }
        let host = self.host()?.unwrap_or("localhost");
        let endpoint = Endpoint::tcp(host, self.port()?.unwrap_or(PORT_DEFAULT));
        let nodes = self.nodes()?;
        if mode == "sentinel" {
            return Err(wrong(Verdict::Unsupported, "REDIS_MODE", mode).with_advice(
                "sentinels are not supported yet; standalone, cluster and memory are",
            ));
        }
        match (mode, nodes) {
            ("cluster", Some(nodes)) => {
                let addressed = self.get("REDIS_HOST").is_some();
                if addressed && !nodes.contains(&endpoint) {
                    let named = nodes.iter().any(
                        |node| matches!(node, Endpoint::Tcp { host: known, .. } if **known == *host),
                    );
                    let advice = if named {
                        "REDIS_CLUSTER_NODES has it with another port; leave one of them out"
                    } else {
                        "REDIS_CLUSTER_NODES has other ones; leave one of them out"
                    };
                    let error = wrong(Verdict::Contradictory, "REDIS_HOST", host);
                    return Err(error.with_advice(advice));
                }
                Ok(Deployment::Cluster(nodes))
            }
            ("cluster", None) => Ok(Deployment::Cluster(vec![endpoint])),
            (_, Some(_)) => {
                let (other, value) = match self.get("REDIS_MODE") {
                    Some(mode) => ("REDIS_MODE", mode),
                    None => ("REDIS_CLUSTER_MODE", "false"),
                };
                Err(self.contradiction("REDIS_CLUSTER_NODES", other, value))
            }
            (_, None) => Ok(Deployment::Standalone(endpoint)),
        }
    }

    /// Sets what `config` leaves open, and finds what contradicts the URL.
    fn fill(&self, mut config: Config, url: Option<&Parsed<'_>>) -> Result<Config, ConfigError> {
        let url_says = |part: &str| url.is_some_and(|url| url.says(part));
        if url.is_some() {
            self.fill_deployment(&mut config, url_says("port"))?;
        }
        if let Some(username) = self.get("REDIS_USERNAME") {
            match &config.username {
                Some(known) if known != username => {
                    return Err(
                        self.differs("REDIS_USERNAME", "redis://app:password@localhost:6379")
                    );
                }
                _ => config.username = Some(username.to_owned()),
            }
        }
        if let Some(password) = self.get("REDIS_PASSWORD") {
            match &config.password {
                Some(known) if known.expose() != password => {
                    return Err(self.differs("REDIS_PASSWORD", "redis://:password@localhost:6379"));
                }
                _ => config.password = Some(Secret::from(password)),
            }
        }
        if let Some(enabled) = self.flag("REDIS_TLS_ENABLED")? {
            if url.is_some() && enabled != config.tls {
                let example = if enabled { "rediss" } else { "redis" };
                let example = format!("{example}://localhost:6379");
                return Err(self.differs("REDIS_TLS_ENABLED", &example));
            }
            config.tls = enabled;
        }
        let database =
            self.number("REDIS_DB", "expected a number from 0 to 2147483647", i32::MAX as u64)?;
        if let Some(number) = database.and_then(|number| u32::try_from(number).ok()) {
            if url_says("db") && config.database != number {
                let example = format!("{URL_EXAMPLE}/{number}");
                return Err(self.differs("REDIS_DB", &example));
            }
            config.database = number;
        }
        let retries = self.number(
            "REDIS_MAX_RETRIES",
            "expected a number up to 4294967295",
            u32::MAX.into(),
        )?;
        if let Some(count) = retries.and_then(|count| u32::try_from(count).ok()) {
            let known = config.dial.failed_dials_max;
            if url_says("failed_dials_max") && known != Some(count) {
                let example = format!("{URL_EXAMPLE}?failed_dials_max={count}");
                return Err(self.differs("REDIS_MAX_RETRIES", &example));
            }
            config.dial.failed_dials_max = Some(count);
        }
        let advice = "expected whole milliseconds from 1 to 86400000, without a unit";
        if let Some(millis) = self.number("REDIS_CONNECT_TIMEOUT", advice, 86_400_000)? {
            let limit = Duration::from_millis(millis);
            if limit.is_zero() {
                let error = wrong(Verdict::Invalid, "REDIS_CONNECT_TIMEOUT", "0");
                return Err(error.with_advice(advice));
            }
            if url_says("connect_timeout") && config.connect_timeout != limit {
                let example = format!("{URL_EXAMPLE}?connect_timeout={millis}ms");
                return Err(self.differs("REDIS_CONNECT_TIMEOUT", &example));
            }
            config.connect_timeout = limit;
        }
        Ok(config)
    }

    /// The same for the address, which the URL always names, and its port, which it may not.
    fn fill_deployment(&self, config: &mut Config, port_said: bool) -> Result<(), ConfigError> {
        let (mode, example) = match &config.deployment {
            Deployment::Standalone(_) => ("standalone", URL_EXAMPLE),
            Deployment::Cluster(_) => ("cluster", "redis+cluster://node1:6379,node2:6379"),
            Deployment::Sentinel { .. } => {
                ("sentinel", "redis+sentinel://sentinel1:26379/mymaster")
            }
            Deployment::Memory | Deployment::Store(_) => ("memory", "memory://"),
        };
        if self.mode()?.is_some_and(|said| said != mode) {
            return Err(self.differs("REDIS_MODE", example));
        }
        if self.cluster_mode()?.is_some_and(|said| said != (mode == "cluster")) {
            return Err(self.differs("REDIS_CLUSTER_MODE", example));
        }
        let (host, port, nodes) = (self.host()?, self.port()?, self.nodes()?);
        let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
        match &mut config.deployment {
            Deployment::Standalone(Endpoint::Tcp { host: known, port: known_port }) => {
                if host.is_some_and(|host| !same(host, known)) {
                    return Err(self.differs("REDIS_HOST", example));
                }
                match port {
                    Some(port) if port_said && port != *known_port => {
                        return Err(
                            self.differs("REDIS_PORT", &format!("redis://localhost:{port}"))
                        );
                    }
                    Some(port) => *known_port = port,
                    None => {}
                }
                if nodes.is_some() {
                    return Err(self.differs("REDIS_CLUSTER_NODES", example));
                }
            }
            Deployment::Cluster(known) => {
                if nodes.is_some_and(|nodes| nodes != *known) {
                    return Err(self.differs("REDIS_CLUSTER_NODES", example));
                }
                let named = |wanted: &str| {
                    known.iter().any(
                        |node| matches!(node, Endpoint::Tcp { host, .. } if same(host, wanted)),
                    )
                };
                if host.is_some_and(|host| !named(host)) {
                    return Err(self.differs("REDIS_HOST", example));
                }
            }
            _ => {
                for name in ["REDIS_HOST", "REDIS_PORT", "REDIS_CLUSTER_NODES"] {
                    if self.get(name).is_some() {
                        return Err(self.differs(name, example));
                    }
                }
            }
        }
        Ok(())
    }

    fn mode(&self) -> Result<Option<&str>, ConfigError> {
        let Some(mode) = self.get("REDIS_MODE") else { return Ok(None) };
        let known = ["standalone", "cluster", "sentinel", "memory"];
        match known.into_iter().find(|known| mode.eq_ignore_ascii_case(known)) {
            Some(known) => Ok(Some(known)),
            None => Err(wrong(Verdict::Invalid, "REDIS_MODE", mode)
                .with_advice("expected standalone, cluster, sentinel or memory")),
        }
    }

    fn cluster_mode(&self) -> Result<Option<bool>, ConfigError> {
        self.flag("REDIS_CLUSTER_MODE")
    }

    fn host(&self) -> Result<Option<&str>, ConfigError> {
        let Some(host) = self.get("REDIS_HOST") else { return Ok(None) };
        let bare = endpoint::unbracketed(host).unwrap_or(host);
        let fault = |found: &str, advice| {
            Err(wrong(Verdict::Invalid, "REDIS_HOST", found).with_advice(advice))
        };
        if bare.contains("://") {
            return fault("://", "expected a host alone; a URL goes into REDIS_URL");
        }
        if bare.contains(':') && !endpoint::is_ipv6(bare) {
            let found = if is_address(host) { host } else { ":" };
            return fault(found, "expected a host alone; its port goes into REDIS_PORT")
                .map_err(|error| error.with_example("REDIS_HOST=localhost REDIS_PORT=6379"));
        }
        match endpoint::check_host(bare) {
            Ok(()) => Ok(Some(bare)),
            Err(BadHost { start, end, advice }) => fault(&bare[start..end], advice),
        }
    }

    fn port(&self) -> Result<Option<u16>, ConfigError> {
        let advice = "expected a number from 1 to 65535";
        let Some(port) = self.number("REDIS_PORT", advice, u16::MAX.into())? else {
            return Ok(None);
        };
        match u16::try_from(port) {
            Ok(port) if port > 0 => Ok(Some(port)),
            _ => Err(wrong(Verdict::Invalid, "REDIS_PORT", "0").with_advice(advice)),
        }
    }

    fn nodes(&self) -> Result<Option<Vec<Endpoint>>, ConfigError> {
        let name = "REDIS_CLUSTER_NODES";
        let nodes = self.get(name).map(url::nodes).transpose();
        nodes.map_err(|error| located(error, name).with_example(example(name)))
    }

    fn flag(&self, name: &'static str) -> Result<Option<bool>, ConfigError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match units::flag(value) {
            Ok(flag) => Ok(Some(flag)),
            Err(advice) => Err(wrong(Verdict::Invalid, name, value).with_advice(advice)),
        }
    }

    fn number(
        &self,
        name: &'static str,
        advice: &'static str,
        most: u64,
    ) -> Result<Option<u64>, ConfigError> {
        let Some(value) = self.get(name) else { return Ok(None) };
        match units::count(value) {
            Some(number) if number <= most => Ok(Some(number)),
            _ => Err(wrong(Verdict::Invalid, name, value).with_advice(advice)),
        }
    }

    fn get(&self, name: &str) -> Option<&str> {
        let known = self.set.iter().find(|(known, _)| *known == name);
        known.map(|(_, value)| value.as_str())
    }

    /// `name` contradicts `REDIS_URL`.
    fn differs(&self, name: &'static str, url: &str) -> ConfigError {
        wrong(Verdict::Contradictory, name, self.get(name).unwrap_or_default())
            .with_advice("REDIS_URL says otherwise; leave one of them out")
            .with_example(format!("REDIS_URL={url}"))
    }

    /// `name` contradicts another variable, which is one word.
    fn contradiction(&self, name: &'static str, other: &str, value: &str) -> ConfigError {
        wrong(Verdict::Contradictory, name, self.get(name).unwrap_or_default())
            .with_advice(format!("{other} is {value:?}; leave one of them out"))
            .with_example(format!("{other}={value}"))
    }

    /// The error, without its piece if that is the password, given in the wrong variable too.
    fn without_password(&self, mut error: ConfigError) -> ConfigError {
        let password = self.get("REDIS_PASSWORD").unwrap_or_default();
        let shown = error.found().unwrap_or_default();
        let overlaps = password.contains(shown) || shown.contains(password);
        if !password.is_empty() && shown.len() > 2 && overlaps {
            if error.example().contains(shown) {
                error = error.with_example(format!("REDIS_URL={URL_EXAMPLE}"));
            }
            error.hide_found();
        }
        error
    }

    /// Names the variable that an error of `validate` comes from.
    fn to_variable(&self, error: ConfigError) -> ConfigError {
        let Place::Builder(method) = *error.place() else { return error };
        let names: &[&'static str] = match method {
            "username" => &["REDIS_USERNAME"],
            "password" => &["REDIS_PASSWORD", "REDIS_USERNAME"],
            "tls" => &["REDIS_TLS_ENABLED"],
            "database" => &["REDIS_DB"],
            "deployment" => &["REDIS_CLUSTER_NODES", "REDIS_CLUSTER_MODE", "REDIS_MODE"],
            _ => &[],
        };
        match names.iter().find(|name| self.get(name).is_some()) {
            Some(name) if method == "password" || method == "username" => {
                let wanted = match error.example() {
                    "memory://" => String::from("REDIS_URL=memory://"),
                    _ => format!("REDIS_USERNAME=app {}", example("REDIS_PASSWORD")),
                };
                error.with_example(wanted).at(Place::Variable((*name).to_owned()))
            }
            Some(name) => {
                let wanted = match method {
                    "database" => format!("{name}={}", error.example()),
                    _ => format!("REDIS_URL={URL_EXAMPLE}"),
                };
                let error = error.with_example(wanted);
                error.at(Place::Variable((*name).to_owned()))
            }
            None => error,
        }
    }
}

/// The value of `name` is wrong. Never shows a password, nor what could be one.
fn wrong(verdict: Verdict, name: &'static str, value: &str) -> ConfigError {
    let setting = KNOWN.iter().find(|(known, ..)| *known == name).map_or(name, |known| known.1);
    let error = ConfigError::new(verdict, setting)
        .with_example(example(name))
        .at(Place::Variable(name.to_owned()));
    let shown = match name {
        "REDIS_PASSWORD" | "REDIS_URL" => false,
        "REDIS_HOST" => showable(value) || is_address(value),
        _ => showable(value),
    };
    if shown { error.with_found(value) } else { error }
}

/// Whether what stands in `REDIS_HOST` is surely an address and not a password, with a port or not.
fn is_address(text: &str) -> bool {
    let bare = endpoint::unbracketed(text).unwrap_or(text);
    url::is_address(text) || bare.parse::<IpAddr>().is_ok() || text.parse::<SocketAddr>().is_ok()
}

fn example(name: &str) -> String {
    let value = KNOWN.iter().find(|(known, ..)| *known == name).map_or("", |known| known.2);
    format!("{name}={value}")
}

/// The error, in this variable rather than in a URL.
fn located(mut error: ConfigError, name: &'static str) -> ConfigError {
    if let Place::Url { variable, .. } = error.place_mut() {
        *variable = Some(name);
    }
    error
}
