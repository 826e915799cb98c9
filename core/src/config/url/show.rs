//! From a configuration to its URL.

use std::fmt::Write;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode, utf8_percent_encode};

use crate::config::parameters::PARAMETERS;
use crate::config::{Config, Deployment, Endpoint};

/// What RFC 3986, section 2.3, calls unreserved stands for itself; all else is encoded.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

const RESERVED_IN_PATHS: &AsciiSet = &RESERVED.remove(b'/');

/// `text` as it stands in a URL.
pub(in crate::config) fn encode(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// The URL, with `password` as it is for the password, if there is one.
pub(in crate::config) fn show(config: &Config, password: &str) -> String {
    let secure = if config.tls { "rediss" } else { "redis" };
    let mut url = match &config.deployment {
        Deployment::Standalone(Endpoint::Tcp { .. }) => format!("{secure}://"),
        Deployment::Standalone(Endpoint::Unix(_)) => String::from("unix://"),
        Deployment::Cluster(_) => format!("{secure}+cluster://"),
        Deployment::Sentinel { .. } => format!("{secure}+sentinel://"),
        Deployment::Memory | Deployment::Store(_) => String::from("memory://"),
    };
    if config.username.is_some() || config.password.is_some() {
        url.push_str(&encode(config.username.as_deref().unwrap_or_default()));
        if config.password.is_some() {
            url.push(':');
            url.push_str(password);
        }
        url.push('@');
    }
    let mut database_in_path = false;
    match &config.deployment {
        Deployment::Standalone(Endpoint::Unix(path)) => {
            let bytes = path.as_os_str().as_encoded_bytes();
            url.extend(percent_encode(bytes, RESERVED_IN_PATHS));
        }
        Deployment::Standalone(endpoint) => {
            url.push_str(&address(endpoint));
            database_in_path = true;
        }
        Deployment::Cluster(nodes) => url.push_str(&addresses(nodes)),
        Deployment::Sentinel { sentinels, service } => {
            let _ = write!(url, "{}/{}", addresses(sentinels), encode(service));
            database_in_path = true;
        }
        Deployment::Memory | Deployment::Store(_) => {}
    }
    if database_in_path && config.database != 0 {
        let _ = write!(url, "/{}", config.database);
    }
    let defaults = Config::default();
    let mut separator = '?';
    for parameter in PARAMETERS {
        let value = parameter.show(config);
        let in_path = database_in_path && parameter.name == "db";
        if in_path || value == parameter.show(&defaults) {
            continue;
        }
        let _ = write!(url, "{separator}{}={}", parameter.name, encode(&value));
        separator = '&';
    }
    url
}

fn addresses(endpoints: &[Endpoint]) -> String {
    endpoints.iter().map(address).collect::<Vec<_>>().join(",")
}

/// An address as a URL has it: the `%` before an IPv6 zone is encoded (RFC 6874).
fn address(endpoint: &Endpoint) -> String {
    endpoint.to_string().replace('%', "%25")
}
