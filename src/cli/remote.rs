//! Where a command finds its answers: at the running server, or in the data folder when none runs.

use std::time::Duration;

use hedgerow_connectors::config::Config;
use hedgerow_connectors::http::Token;
use hedgerow_connectors::http::client::Client;
use hedgerow_connectors::serve::Offline;

/// Either of the two.
pub enum Place {
    /// A server answers on the configured address.
    Server(Client),
    /// No server has the data folder.
    Folder(Box<Offline>),
}

impl Place {
    /// Finds the server of the data folder; without one, opens the folder.
    pub async fn find(config: Config) -> anyhow::Result<Self> {
        const WAIT: Duration = Duration::from_secs(2);
        let address = config.http.listen;
        let listens = tokio::time::timeout(WAIT, tokio::net::TcpStream::connect(address)).await;
        if matches!(listens, Ok(Ok(_))) {
            let token = Token::load(&config.token_file())?;
            return Ok(Self::Server(Client::new(address, token)));
        }
        let folder = &config.data.folder;
        if !folder.exists() {
            let folder = folder.display();
            anyhow::bail!(
                "no server answers at {address}, and there is no data folder {folder}: start `hedgerow serve` first"
            );
        }
        Ok(Self::Folder(Box::new(Offline::open(config).await?)))
    }

    /// Closes the folder, if it was opened.
    pub async fn close(self) {
        if let Self::Folder(folder) = self {
            folder.close().await;
        }
    }
}
