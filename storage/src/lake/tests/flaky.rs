//! An object store that fails as told: not reachable, never answering, or answering nothing after it did its work.

use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMode,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

/// What is wrong at the moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Trouble {
    /// Every request fails.
    pub down: bool,
    /// Writes never answer.
    pub hang: bool,
    /// So many writes of matching objects fail.
    pub fail_writes: (usize, &'static str),
    /// So many writes of matching objects happen, but their answer is lost.
    pub lose_answers: (usize, &'static str),
    /// Creation replaces what is there.
    pub careless: bool,
}

/// The store and its troubles, which a test changes at will.
#[derive(Clone)]
pub(super) struct Flaky {
    inner: Arc<dyn ObjectStore>,
    pub trouble: Arc<Mutex<Trouble>>,
}

impl Flaky {
    pub(super) fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Self { inner, trouble: Arc::default() }
    }

    pub(super) fn set(&self, trouble: Trouble) {
        *self.trouble.lock().unwrap() = trouble;
    }

    fn reached(&self) -> Result<()> {
        if self.trouble.lock().unwrap().down { Err(broken("connection refused")) } else { Ok(()) }
    }
}

fn broken(reason: &str) -> Error {
    Error::Generic { store: "flaky", source: reason.to_owned().into() }
}

fn due(budget: &mut (usize, &'static str), location: &Path) -> bool {
    let hit = budget.0 > 0 && location.as_ref().contains(budget.1);
    budget.0 -= usize::from(hit);
    hit
}

impl fmt::Debug for Flaky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flaky")
    }
}

impl fmt::Display for Flaky {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Flaky")
    }
}

#[async_trait]
impl ObjectStore for Flaky {
    async fn put_opts(&self, location: &Path, payload: PutPayload, mut opts: PutOptions) -> Result<PutResult> {
        self.reached()?;
        let (hang, fail, lose) = {
            let mut trouble = self.trouble.lock().unwrap();
            if trouble.careless {
                opts.mode = PutMode::Overwrite;
            }
            (trouble.hang, due(&mut trouble.fail_writes, location), due(&mut trouble.lose_answers, location))
        };
        if hang {
            futures::future::pending::<()>().await;
        }
        if fail {
            return Err(broken("503"));
        }
        let done = self.inner.put_opts(location, payload, opts).await;
        if lose { Err(broken("connection reset")) } else { done }
    }

    async fn put_multipart_opts(&self, at: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.reached()?;
        self.inner.put_multipart_opts(at, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.reached()?;
        self.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.reached() {
            Ok(()) => self.inner.list(prefix),
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.reached()?;
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.reached()?;
        self.inner.copy_opts(from, to, options).await
    }
}
