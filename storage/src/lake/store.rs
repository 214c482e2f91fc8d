//! Where a lake lies: a local folder or a bucket, opened from the sink's settings, and the check that it is fit for
//! commits.

use std::fs::File;
use std::path::{Path as FilePath, PathBuf};
use std::sync::Arc;

use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ClientOptions, Error as StoreError, ObjectStore, ObjectStoreExt, PutMode, PutPayload, RetryConfig};
use url::Url;

use super::config::{LakeConfig, Secret};

/// Why a lake cannot be opened where it is said to lie. Such a sink needs another setting, not patience.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Not a folder and not an `s3://` URL.
    #[error("sink {sink}: path `{url}` is neither a folder nor s3://bucket/prefix")]
    Url {
        /// The sink.
        sink: String,
        /// Its `path`.
        url: String,
    },
    /// The folder cannot be made.
    #[error("sink {sink}: cannot use the folder `{url}`: {source}. Check `path` and who owns the folder")]
    Folder {
        /// The sink.
        sink: String,
        /// Its `path`.
        url: String,
        /// Cause.
        source: std::io::Error,
    },
    /// The S3 settings do not go together.
    #[error("sink {sink}: cannot set up {url}: {reason}. Check `endpoint`, `region` and the access keys")]
    Settings {
        /// The sink.
        sink: String,
        /// Its `path`.
        url: String,
        /// Cause.
        reason: String,
    },
}

/// An opened place: the store, and where in it the table lies.
#[derive(Clone, Debug)]
pub struct Place {
    /// The store from its root, as Delta Lake wants it.
    pub(super) root: Arc<dyn ObjectStore>,
    /// The table's URL.
    pub(super) url: Url,
    /// The table's folder as a store of its own.
    pub(super) table: Arc<dyn ObjectStore>,
    /// The table's folder on the local disk, if it is there.
    folder: Option<PathBuf>,
}

impl Place {
    /// A table at `url` (`scheme://…/path`) in a store given from its root.
    pub fn new(root: Arc<dyn ObjectStore>, url: Url) -> Self {
        let prefix = Path::from_url_path(url.path()).unwrap_or_default();
        let table: Arc<dyn ObjectStore> = Arc::new(PrefixStore::new(root.clone(), prefix));
        Self { root, url, table, folder: None }
    }

    /// Whether it is on the local disk.
    pub(super) fn is_folder(&self) -> bool {
        self.folder.is_some()
    }

    /// Syncs objects that lie on the local disk: the store there does not. Other stores answer when they are durable.
    pub(super) async fn make_durable(&self, objects: impl IntoIterator<Item = String>) -> Result<(), StoreError> {
        let Some(folder) = self.folder.clone() else { return Ok(()) };
        let objects: Vec<String> = objects.into_iter().collect();
        let sync = move || -> std::io::Result<()> {
            for object in objects {
                let path = folder.join(object);
                File::open(&path)?.sync_all()?;
                for above in path.ancestors().skip(1).take_while(|above| above.starts_with(&folder)) {
                    File::open(above)?.sync_all()?;
                }
            }
            Ok(())
        };
        let done = tokio::task::spawn_blocking(sync).await.map_err(std::io::Error::other).flatten();
        done.map_err(|source| StoreError::Generic { store: "local disk", source: source.into() })
    }

    /// Opens the place that the settings name. No request is sent.
    pub(super) fn open(config: &LakeConfig) -> Result<Self, PlaceError> {
        let wrong = || PlaceError::Url { sink: config.name.clone(), url: config.url.clone() };
        match config.url.split_once("://") {
            Some(("s3" | "s3a", _)) => {
                let url = Url::parse(&config.url).map_err(|_| wrong())?;
                let bucket = url.host_str().filter(|bucket| !bucket.is_empty()).ok_or_else(wrong)?;
                Ok(Self::new(Arc::new(s3(config, bucket)?), url.clone()))
            }
            Some(("file", path)) => Self::folder(config, FilePath::new(path)),
            Some(_) => Err(wrong()),
            None if config.url.is_empty() => Err(wrong()),
            None => Self::folder(config, FilePath::new(&config.url)),
        }
    }

    fn folder(config: &LakeConfig, path: &FilePath) -> Result<Self, PlaceError> {
        let refused = |source| PlaceError::Folder { sink: config.name.clone(), url: config.url.clone(), source };
        std::fs::create_dir_all(path).map_err(refused)?;
        let path = path.canonicalize().map_err(refused)?;
        let url = Url::from_directory_path(&path)
            .map_err(|()| PlaceError::Url { sink: config.name.clone(), url: config.url.clone() })?;
        Ok(Self { folder: Some(path), ..Self::new(Arc::new(LocalFileSystem::new()), url) })
    }
}

fn s3(config: &LakeConfig, bucket: &str) -> Result<object_store::aws::AmazonS3, PlaceError> {
    let options = &config.store;
    let client = ClientOptions::new()
        .with_timeout(options.request_timeout)
        .with_connect_timeout(options.request_timeout.min(std::time::Duration::from_secs(5)))
        .with_allow_http(options.allow_http);
    // The lake has its own retries, which stop for nothing and can be seen; the client's are for blips.
    let retry = RetryConfig { max_retries: 2, retry_timeout: options.request_timeout, ..RetryConfig::default() };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(options.region.as_deref().unwrap_or("us-east-1"))
        .with_allow_http(options.allow_http)
        .with_client_options(client)
        .with_retry(retry);
    if let Some(endpoint) = &options.endpoint {
        builder = builder.with_endpoint(endpoint.trim_end_matches('/'));
    }
    match (&options.access_key_id, &options.secret_access_key) {
        (Some(id), Some(key)) => {
            builder = builder.with_access_key_id(id.reveal()).with_secret_access_key(key.reveal());
        }
        _ => builder = builder.with_skip_signature(true),
    }
    if let Some(token) = &options.session_token {
        builder = builder.with_token(token.reveal());
    }
    builder.build().map_err(|error| PlaceError::Settings {
        sink: config.name.clone(),
        url: config.url.clone(),
        reason: redact(config, &error.to_string()),
    })
}

/// A text that may quote what a server said, without the sink's secrets.
pub(super) fn redact(config: &LakeConfig, text: &str) -> String {
    let store = &config.store;
    let secrets = [&store.access_key_id, &store.secret_access_key, &store.session_token];
    let hide = |text: String, secret: &Secret| match secret.reveal() {
        "" => text,
        value => text.replace(value, "***"),
    };
    let mut text = secrets.into_iter().flatten().fold(text.to_owned(), hide);
    if let Some((end, _)) = text.char_indices().nth(600) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// What the probe found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Probe {
    /// A second creation fails: commits exclude each other.
    Fit,
    /// A second creation replaces the first: two commits could both count.
    Unfit,
}

/// Creates one object twice. The second creation must fail, else the store cannot hold a lake.
pub(super) async fn probe(store: &dyn ObjectStore, sink: &str) -> Result<Probe, StoreError> {
    let key =
        Path::from(format!("_delta_log/_hedgerow_probe_{}", sink.replace(|c: char| !c.is_ascii_alphanumeric(), "_")));
    let create = || store.put_opts(&key, PutPayload::from_static(b"probe"), PutMode::Create.into());
    match create().await {
        // Left over from a probe that was cut short, which makes this the second creation.
        Ok(_) | Err(StoreError::AlreadyExists { .. }) => {}
        Err(error) => return Err(error),
    }
    let verdict = match create().await {
        Err(StoreError::AlreadyExists { .. }) => Probe::Fit,
        Ok(_) | Err(StoreError::NotImplemented { .. }) => Probe::Unfit,
        Err(error) => return Err(error),
    };
    match store.delete(&key).await {
        Ok(()) | Err(StoreError::NotFound { .. }) => Ok(verdict),
        Err(error) => Err(error),
    }
}
