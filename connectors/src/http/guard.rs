//! Who may come in.
//!
//! A browser that was lured to `http://evil.example` can be made to resolve that name to 127.0.0.1 (DNS rebinding); its
//! requests then carry `Host: evil.example`, which is refused here. The token protects from everyone else on the machine.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use tokio::sync::OwnedSemaphorePermit;

use super::destinations::CONFIRM;
use super::error::HttpError;
use super::routes::Shared;

/// Runs before every call: Host for all, the limit on requests for all but health, the token for all but health and
/// confirmations, which bring one of their own.
pub(super) async fn guard(State(shared): State<Arc<Shared>>, request: Request, next: Next) -> Response {
    if let Err(error) = check_host(&shared, request.uri(), request.headers()) {
        return error.into_response();
    }
    if request.uri().path() == "/health" {
        return next.run(request).await;
    }
    if !request.uri().path().starts_with(CONFIRM)
        && let Err(error) = check_token(&shared, request.headers())
    {
        return error.into_response();
    }
    match Arc::clone(&shared.requests).try_acquire_owned() {
        Ok(permit) => hold(next.run(request).await, permit),
        Err(_) => HttpError::new(StatusCode::SERVICE_UNAVAILABLE, "too many requests are being answered")
            .hint("try again, or raise http.max_requests")
            .into_response(),
    }
}

/// A streamed answer counts until its last byte.
fn hold(response: Response, permit: OwnedSemaphorePermit) -> Response {
    if response.body().size_hint().exact().is_some() {
        return response;
    }
    response.map(|body| {
        Body::from_stream(body.into_data_stream().map(move |chunk| {
            let _held = &permit;
            chunk
        }))
    })
}

fn check_token(shared: &Shared, headers: &HeaderMap) -> Result<(), HttpError> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = given.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
    });
    match token {
        Some(token) if shared.token.matches(token) => Ok(()),
        Some(_) => Err(HttpError::new(StatusCode::UNAUTHORIZED, "wrong token")
            .hint("the token is in the file that http.token_file names, by default http.token in the data folder")),
        None => Err(HttpError::new(StatusCode::UNAUTHORIZED, "a token is needed")
            .hint("send the header `Authorization: Bearer <token>`; the token is in the file that http.token_file names, by default http.token in the data folder")),
    }
}

fn check_host(shared: &Shared, uri: &Uri, headers: &HeaderMap) -> Result<(), HttpError> {
    // A proxy-style request line names the host itself and overrules the header.
    let host = match uri.host() {
        Some(host) => Some(host),
        None => headers.get(header::HOST).and_then(|value| value.to_str().ok()).map(without_port),
    };
    match host {
        Some(host) if allowed(host, shared.listen, &shared.allowed_hosts) => Ok(()),
        Some(host) => {
            Err(HttpError::new(StatusCode::FORBIDDEN, format!("this server is not called {}", host.escape_debug()))
                .hint("add the name to http.allowed_hosts if it should be"))
        }
        None => Err(HttpError::new(StatusCode::BAD_REQUEST, "the request has no Host header")),
    }
}

/// Which port does not matter: an attacker's page has a name of its own, not a port.
fn without_port(host: &str) -> &str {
    if host.starts_with('[') {
        return host.split_inclusive(']').next().unwrap_or(host);
    }
    host.rsplit_once(':').map_or(host, |(name, _)| name)
}

/// The listen address itself, localhost if it listens there, any address if it listens on all, and the configured names.
fn allowed(host: &str, listen: IpAddr, names: &[String]) -> bool {
    let host = host.strip_suffix('.').unwrap_or(host);
    if names.iter().any(|name| without_port(name).eq_ignore_ascii_case(host)) {
        return true;
    }
    let local = listen.is_loopback() || listen.is_unspecified();
    if host.eq_ignore_ascii_case("localhost") {
        return local;
    }
    let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
    match bare.parse::<IpAddr>() {
        Ok(address) => address == listen || listen.is_unspecified() || (local && address.is_loopback()),
        Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_the_listen_address_localhost_and_configured_names() {
        let names = ["farm.example".to_owned()];
        let check = |host: &str, listen: &str| allowed(without_port(host), listen.parse().unwrap(), &names);
        for host in ["127.0.0.1:8080", "localhost", "LOCALHOST:1", "[::1]:8080", "farm.example:443", "Farm.Example."] {
            assert!(check(host, "127.0.0.1"), "{host}");
        }
        for host in ["evil.example", "10.0.0.1", "localhost.evil.example", "", "[::2]", "127.0.0.1.evil.example:80"] {
            assert!(!check(host, "127.0.0.1"), "{host}");
        }
        assert!(check("10.0.0.1:8080", "0.0.0.0"));
        assert!(!check("evil.example", "0.0.0.0"));
        assert!(check("10.0.0.1", "10.0.0.1"));
        assert!(!check("localhost", "10.0.0.1"));
        assert!(!check("10.0.0.2", "10.0.0.1"));
    }
}
