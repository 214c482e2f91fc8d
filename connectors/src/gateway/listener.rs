//! Accepting sockets, and nothing else: everything that can take time happens in the connection's task.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::net::TcpListener;

use super::Shared;
use super::handshake;
use super::reject::Reject;

/// Accepts until the gateway closes.
pub(super) async fn accept(shared: Arc<Shared>, listener: TcpListener) {
    while !shared.closing.load(Ordering::Acquire) {
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Mostly too many open files: it passes when connections close.
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        shared.metrics.connections_accepted.add(1);
        let Ok(place) = Arc::clone(&shared.connections).try_acquire_owned() else {
            shared.metrics.reject(Reject::Quota);
            continue;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            // Acknowledgements are small and must not wait for more.
            let _ = stream.set_nodelay(true);
            let (reader, writer) = stream.into_split();
            handshake::serve(shared, reader, writer, peer).await;
            drop(place);
        });
    }
}
