//! The guarded HTTP client: it connects to addresses of the public internet, and to those that are opened by name.
//!
//! The address is judged where it cannot change any more: names are resolved by the client's own resolver, and the very
//! addresses that passed are the ones connected to, at every connect. So a name that resolves to something else a moment
//! later wins nothing. Addresses written in the URL never reach a resolver; those are judged when the request is
//! built, after the URL parser has made one form of all their spellings (decimal, octal, hexadecimal, shortened).
//!
//! No redirect is followed, since a redirect names an address that nobody configured; no proxy of the environment is
//! used, since it would connect for us; and a URL with a user name or a password is refused, since
//! `http://public@private/` is read differently by people.

use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use reqwest::Method;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use serde::{Deserialize, Deserializer};
use url::{Host, Url};

use super::address::why_private;

/// An address that is open although it may be private: `host:port`, by exactly this name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AllowPrivate {
    host: Host,
    port: u16,
}

impl FromStr for AllowPrivate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("\"{text}\" is not host:port, for example \"127.0.0.1:9000\" or \"[::1]:9000\"");
        let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let port = port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?;
        let host = Host::parse(host).map_err(|_| wrong())?;
        Ok(Self { host, port })
    }
}

impl<'de> Deserialize<'de> for AllowPrivate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl std::fmt::Display for AllowPrivate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// Why a request is not made at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// No URL.
    #[error("\"{url}\" is not a URL: {reason}")]
    Url {
        /// As it was given.
        url: String,
        /// Why.
        reason: String,
    },
    /// Another scheme.
    #[error("{url}: only http and https go out, not {scheme}")]
    Scheme {
        /// The URL.
        url: String,
        /// Its scheme.
        scheme: String,
    },
    /// A user name or password.
    #[error(
        "the URL with the host {host} holds a user name or password: leave it out, and send credentials in a header"
    )]
    UserInfo {
        /// The host; the rest is kept to ourselves.
        host: String,
    },
    /// Not of the public internet.
    #[error("{host} is {why}, and closed: allow_private = '{host}:{port}' opens it")]
    Private {
        /// The address as the URL has it.
        host: String,
        /// Its port.
        port: u16,
        /// What kind of address it is.
        why: &'static str,
    },
}

/// The client could not be made.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client cannot be made: {0}")]
pub struct ClientError(#[from] reqwest::Error);

/// Looks names up.
pub trait Lookup: Send + Sync + 'static {
    /// All addresses of a name, now.
    fn lookup(&self, name: String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>>;
}

/// The resolver of the operating system.
#[derive(Clone, Copy, Debug)]
pub struct SystemLookup;

impl Lookup for SystemLookup {
    fn lookup(&self, name: String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> {
        Box::pin(async move {
            let found = tokio::net::lookup_host((name, 0)).await?;
            Ok(found.map(|address| address.ip()).collect())
        })
    }
}

/// The error of a name that resolves to private addresses only. [`private_name`] finds it in the error of a request.
#[derive(Debug, thiserror::Error)]
#[error("the name {name} resolves to {address}, {why}: allow_private = '{name}:PORT' opens it")]
pub struct PrivateName {
    name: String,
    address: IpAddr,
    why: &'static str,
}

/// Whether a request failed because of the guard, not because of the network.
pub fn private_name(error: &reqwest::Error) -> Option<&PrivateName> {
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        if let Some(found) = error.downcast_ref::<PrivateName>() {
            return Some(found);
        }
        source = error.source();
    }
    None
}

/// A resolver that hands out public addresses only, or all.
struct Guarding<L> {
    lookup: Arc<L>,
    open: bool,
}

impl<L: Lookup> Resolve for Guarding<L> {
    fn resolve(&self, name: Name) -> Resolving {
        let name = name.as_str().to_owned();
        let found = self.lookup.lookup(name.clone());
        let open = self.open;
        Box::pin(async move {
            let mut public = Vec::new();
            let mut refused = None;
            for address in found.await? {
                match why_private(address) {
                    Some(why) if !open => refused = Some(PrivateName { name: name.clone(), address, why }),
                    _ => public.push(SocketAddr::new(address, 0)),
                }
            }
            match refused {
                Some(refused) if public.is_empty() => Err(refused.into()),
                _ => Ok(Box::new(public.into_iter()) as Addrs),
            }
        })
    }
}

/// The client. Clones share connections.
#[derive(Clone, Debug)]
pub struct GuardedClient {
    public: reqwest::Client,
    /// For the addresses of `allowed`, which resolve to anything.
    opened: reqwest::Client,
    allowed: Arc<[AllowPrivate]>,
}

impl GuardedClient {
    /// A client to which, besides the public internet, `allowed` is open.
    ///
    /// # Errors
    /// When TLS cannot be set up on this machine.
    pub fn new(allowed: &[AllowPrivate], connect_timeout: Duration) -> Result<Self, ClientError> {
        Self::with_lookup(allowed, connect_timeout, SystemLookup)
    }

    /// The same, with another way to look names up.
    ///
    /// # Errors
    /// When TLS cannot be set up on this machine.
    pub fn with_lookup<L: Lookup>(
        allowed: &[AllowPrivate],
        connect_timeout: Duration,
        lookup: L,
    ) -> Result<Self, ClientError> {
        let lookup = Arc::new(lookup);
        let build = |open: bool| {
            reqwest::Client::builder()
                .dns_resolver(Arc::new(Guarding { lookup: Arc::clone(&lookup), open }))
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .http1_only()
                .referer(false)
                .retry(reqwest::retry::never())
                .connect_timeout(connect_timeout)
                .pool_idle_timeout(Duration::from_secs(30))
                .user_agent(concat!("hedgerow/", env!("CARGO_PKG_VERSION")))
                .build()
        };
        Ok(Self { public: build(false)?, opened: build(true)?, allowed: allowed.into() })
    }

    /// A request to this URL, ready for headers and body. Everything but the resolved address is judged here.
    ///
    /// # Errors
    /// When the URL is one that nothing is sent to.
    pub fn request(&self, method: Method, url: Url) -> Result<reqwest::RequestBuilder, Refused> {
        let client = if judge(&self.allowed, &url)? { &self.opened } else { &self.public };
        Ok(client.request(method, url))
    }

    /// Reads a URL and judges it, for telling mistakes when a rule is applied. A name is not resolved.
    ///
    /// # Errors
    /// When the URL is one that nothing is sent to.
    pub fn check(&self, url: &str) -> Result<Url, Refused> {
        check(&self.allowed, url)
    }
}

/// Reads a URL and judges it, for telling mistakes when a rule is applied. A name is not resolved.
///
/// # Errors
/// When the URL is one that nothing is sent to.
pub fn check(allowed: &[AllowPrivate], url: &str) -> Result<Url, Refused> {
    let parsed =
        Url::parse(url).map_err(|error| Refused::Url { url: without_login(url), reason: error.to_string() })?;
    judge(allowed, &parsed)?;
    Ok(parsed)
}

/// Whether the URL is open by name.
fn judge(allowed: &[AllowPrivate], url: &Url) -> Result<bool, Refused> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Refused::Scheme { url: without_login(url.as_str()), scheme: url.scheme().to_owned() });
    }
    let (Some(host), Some(port)) = (url.host(), url.port_or_known_default()) else {
        return Err(Refused::Url { url: without_login(url.as_str()), reason: "it has no host".into() });
    };
    if !url.username().is_empty() || url.password().is_some() {
        return Err(Refused::UserInfo { host: host.to_string() });
    }
    if allowed.iter().any(|allowed| allowed.host == host.to_owned() && allowed.port == port) {
        return Ok(true);
    }
    let address = match &host {
        Host::Ipv4(address) => IpAddr::V4(*address),
        Host::Ipv6(address) => IpAddr::V6(*address),
        // A name is judged by what it resolves to. This one never is public, wherever it resolves.
        Host::Domain(name) => {
            let name = name.trim_end_matches('.');
            return match name == "localhost" || name.ends_with(".localhost") {
                true => Err(Refused::Private { host: name.to_owned(), port, why: "this machine" }),
                false => Ok(false),
            };
        }
    };
    match why_private(address) {
        Some(why) => Err(Refused::Private { host: host.to_string(), port, why }),
        None => Ok(false),
    }
}

/// A URL as it may stand in a message: a password in it does not.
fn without_login(url: &str) -> String {
    match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme + 3 <= at => {
            let (head, tail) = (url.get(..scheme + 3), url.get(at + 1..));
            format!("{}…@{}", head.unwrap_or_default(), tail.unwrap_or_default())
        }
        _ => url.to_owned(),
    }
}

#[cfg(test)]
#[path = "guard_tests.rs"]
mod tests;
