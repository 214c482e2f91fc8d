//! Sockets of the HTTP API: accepting, limits, shutdown.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::routes::{Shared, router};
use super::{Api, Token, TokenError};
use crate::config::Config;

/// Why the HTTP API did not start.
#[derive(Debug, thiserror::Error)]
pub enum HttpStartError {
    /// The address cannot be used.
    #[error("cannot listen for HTTP on {address}: {source}. Is another server running? Change http.listen if so")]
    Listen {
        /// http.listen
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// No token.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// The running HTTP API. Dropping it ends it at once.
#[derive(Debug)]
pub struct HttpServer {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    accepting: JoinHandle<()>,
    patience: Duration,
}

impl HttpServer {
    /// Listens, and answers from `api` until it is shut down. Needs a tokio runtime around it.
    pub async fn start(config: &Config, api: Api) -> Result<Self, HttpStartError> {
        let http = &config.http;
        let token = Token::load_or_create(&config.token_file())?;
        let failed = |source| HttpStartError::Listen { address: http.listen, source };
        let listener = TcpListener::bind(http.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let shared = Arc::new(Shared {
            api,
            token,
            listen: http.listen.ip(),
            allowed_hosts: http.allowed_hosts.iter().cloned().chain(public_host(&http.public_url)).collect(),
            requests: Arc::new(Semaphore::new(http.max_requests)),
            max_body: http.max_body.as_usize(),
            read_timeout: http.read_timeout.0,
        });
        let (stop, stopped) = watch::channel(false);
        let acceptor = Acceptor { listener, shared, stopped, slots: Arc::new(Semaphore::new(http.max_connections)) };
        let accepting = tokio::spawn(acceptor.run());
        Ok(Self { address, stop, accepting, patience: http.shutdown_timeout.0 })
    }

    /// The address it listens on, with the port that was chosen if port 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts no more, lets requests under way finish within `http.shutdown_timeout`, then closes what is left.
    pub async fn shutdown(mut self) {
        let _ = self.stop.send(true);
        if tokio::time::timeout(self.patience, &mut self.accepting).await.is_err() {
            tracing::warn!(after = ?self.patience, "HTTP requests were cut off at shutdown");
        }
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

struct Acceptor {
    listener: TcpListener,
    shared: Arc<Shared>,
    stopped: watch::Receiver<bool>,
    slots: Arc<Semaphore>,
}

impl Acceptor {
    /// Ends when stopped and all connections are done; aborting it closes them.
    async fn run(mut self) {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = next(&self.listener, &self.slots) => match accepted {
                    Some((socket, slot)) => {
                        let connection = serve(socket, Arc::clone(&self.shared), self.stopped.clone(), slot);
                        connections.spawn(connection);
                    }
                    None => break,
                },
                () = stop(&mut self.stopped) => break,
                Some(_) = connections.join_next() => {}
            }
        }
        drop(self.listener);
        while connections.join_next().await.is_some() {}
    }
}

/// The host under which receivers call the server.
fn public_host(public_url: &str) -> Option<String> {
    url::Url::parse(public_url).ok()?.host_str().map(str::to_owned)
}

/// Returns when the server is told to stop, or is gone.
async fn stop(stopped: &mut watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stop| *stop).await;
}

/// The next connection, once there is a slot for it.
async fn next(listener: &TcpListener, slots: &Arc<Semaphore>) -> Option<(TcpStream, OwnedSemaphorePermit)> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((socket, _)) => return Some((socket, slot)),
            Err(error) => {
                // Out of file descriptors, mostly: it passes, and must not become a busy loop.
                tracing::warn!(%error, "cannot accept an HTTP connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

async fn serve(
    socket: TcpStream,
    shared: Arc<Shared>,
    mut stopped: watch::Receiver<bool>,
    _slot: OwnedSemaphorePermit,
) {
    let _ = socket.set_nodelay(true);
    let service = TowerToHyperService::new(router(Arc::clone(&shared)));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(shared.read_timeout)
        .serve_connection(TokioIo::new(socket), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop(&mut stopped) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "an HTTP connection ended early");
    }
}
