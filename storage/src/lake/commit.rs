//! The committer's thread: uploads sealed files and commits them, for as long as it takes.
//!
//! Every attempt starts from what the store says, so it does not matter how the one before ended: an upload is repeated
//! under its fixed name, and a piece whose end is at or below the table's mark is in the table already.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::error::ArrowError;
use deltalake_core::DeltaTableError;
use object_store::path::Path;
use object_store::{Error as StoreError, ObjectStoreExt, PutPayload};
use tokio::runtime::Handle;

use super::config::{Format, LakeConfig};
use super::delta::{CommitError, Snapshot};
use super::plain;
use super::schema::{LakeSchema, LakeType, Lookup};
use super::seal::{self, SealError};
use super::spool::{Piece, Spool, SpoolError};
use super::state::{Committed, LakeStatus, Shared, State};
use super::store::{Place, Probe, probe, redact};
use crate::fault;

/// Pieces in one Delta commit, so that a backlog is worked off quickly.
const PIECES_AT_ONCE: usize = 16;
/// Commits of others that may come between before an attempt counts as failed.
const CONFLICTS: usize = 20;

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
enum AttemptError {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Delta(#[from] DeltaTableError),
    #[error("no answer within {} s", .0.as_secs())]
    Timeout(Duration),
    #[error("other writers commit to the table all the time")]
    Conflicts,
    #[error("cannot read the sealed file {path}: {source}")]
    Sealed { path: String, source: std::io::Error },
    #[error("the sealed file {0} is damaged: its checksum differs from the manifest")]
    Damaged(String),
    #[error(transparent)]
    Spool(#[from] SpoolError),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error(transparent)]
    Columns(#[from] ArrowError),
    #[error("{0}")]
    Unfit(String),
}

impl From<CommitError> for AttemptError {
    fn from(error: CommitError) -> Self {
        match error {
            CommitError::Unfit(reason) => Self::Unfit(reason),
            CommitError::Delta(error) => Self::Delta(error),
        }
    }
}

pub(super) struct Committer {
    pub config: Arc<LakeConfig>,
    pub shared: Arc<Shared>,
    pub spool: Arc<Mutex<Spool>>,
    pub place: Place,
    pub runtime: Handle,
    /// A named bug, for tests: takes sealed pieces for committed without looking at the table's mark.
    pub skip_unseen: bool,
}

impl Committer {
    /// Runs until the lake is gone, or closing with nothing left to commit.
    pub(super) fn run(self) {
        let mut pause = self.config.min_backoff;
        let mut reached = false;
        loop {
            let work = |state: &State| state.gone || state.closing || !reached || !state.sealed.is_empty();
            if !self.shared.wait(Duration::from_secs(3600), work) {
                continue;
            }
            let (stop, pieces) = {
                let state = self.shared.lock();
                let idle = state.closing && state.sealed.is_empty();
                (state.gone || idle, state.sealed.iter().take(PIECES_AT_ONCE).cloned().collect::<Vec<_>>())
            };
            if stop {
                break;
            }
            let result = if reached { self.attempt(self.commit(pieces)) } else { self.attempt(self.reach()) };
            match result {
                None => break,
                Some(Ok(())) => {
                    reached = true;
                    pause = self.config.min_backoff;
                    self.shared.update(|state| {
                        state.contacted = true;
                        state.status = LakeStatus::Ok;
                        state.message = None;
                    });
                }
                Some(Err(error)) => {
                    self.report(&error);
                    self.shared.wait(pause, |state| state.gone);
                    pause = (pause * 2).min(self.config.max_backoff);
                }
            }
        }
        self.shared.update(|state| state.gone = true);
    }

    /// Runs one attempt within its time; none when the lake is gone meanwhile.
    fn attempt<T>(&self, work: impl Future<Output = Result<T, AttemptError>>) -> Option<Result<T, AttemptError>> {
        let limit = self.config.attempt_timeout;
        self.runtime.block_on(async {
            tokio::select! {
                done = tokio::time::timeout(limit, work) => {
                    Some(done.unwrap_or(Err(AttemptError::Timeout(limit))))
                }
                () = self.gone() => None,
            }
        })
    }

    async fn gone(&self) {
        while !self.shared.lock().gone {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// First contact: is the store fit, what does the table hold?
    async fn reach(&self) -> Result<(), AttemptError> {
        match self.config.format {
            Format::Parquet => {
                let files = plain::list(self.place.table.as_ref()).await?;
                self.shared.update(|state| state.committed = Committed::Files(files));
            }
            Format::Delta => {
                if probe(self.place.table.as_ref(), &self.config.name).await? == Probe::Unfit {
                    return Err(AttemptError::Unfit(
                        "this store lets a second writer replace an object that exists (no conditional put), so that \
                         rows could be lost or doubled: use another store, or format = 'parquet'"
                            .into(),
                    ));
                }
                let schema = self.shared.lock().schema.clone();
                let snapshot = Snapshot::load_or_create(&self.place, &self.config.name, &schema).await?;
                self.publish(snapshot)?;
            }
        }
        Ok(())
    }

    /// Makes a table version the one that queries see, and drops the rows it contains here, at one moment.
    fn publish(&self, snapshot: Snapshot) -> Result<(), AttemptError> {
        let mark = if self.skip_unseen { u64::MAX } else { snapshot.mark };
        let columns = snapshot.columns();
        let mut spool = self.spool.lock().unwrap_or_else(PoisonError::into_inner);
        let cut = self.cut(&mut spool, snapshot.mark)?;
        let released = self.shared.update(|state| {
            learn(state, &columns)?;
            if matches!(state.committed, Committed::Unknown) {
                state.buffer.drop_up_to(snapshot.mark)?;
                // Rows on their way were fitted without knowing the mark.
                state.generation += 1;
            }
            let mut released = Vec::new();
            while let Some(piece) = state.sealed.front()
                && piece.to <= mark
            {
                state.rows_committed += piece.rows;
                released.extend(state.sealed.pop_front());
            }
            if let (Some(cut), Some(front)) = (cut, state.sealed.front_mut()) {
                std::mem::replace(front, cut).release();
            }
            state.committed_mark = snapshot.mark;
            state.taken = state.taken.max(snapshot.mark);
            state.committed = Committed::Delta(Box::new(snapshot));
            Ok::<_, AttemptError>(released)
        })?;
        drop(spool);
        self.forget(&released)
    }

    /// The piece that the mark falls into, made anew without what the table has. It exists only if the spool was lost
    /// and then filled while the store was out of reach.
    fn cut(&self, spool: &mut Spool, mark: u64) -> Result<Option<Piece>, AttemptError> {
        let Some(across) = spool.across(mark) else { return Ok(None) };
        if across.ends.is_empty() {
            return Err(AttemptError::Unfit(format!(
                "the table's mark for this sink is {mark}, which no commit from here set: another server writes to it \
                 under the same sink name. Give one of the two another name"
            )));
        }
        let schema = self.shared.lock().file_schema();
        let piece = seal::cut(&self.config.spool_dir, &self.config.name, &across, mark, &schema)?;
        Ok(Some(spool.exchange(piece)?))
    }

    fn forget(&self, released: &[Piece]) -> Result<(), AttemptError> {
        if let Some(to) = released.last().map(|piece| piece.to) {
            fault::point("lake.after_commit_before_mark");
            self.spool.lock().unwrap_or_else(PoisonError::into_inner).forget(to)?;
            released.iter().for_each(Piece::release);
        }
        Ok(())
    }

    async fn commit(&self, pieces: Vec<Piece>) -> Result<(), AttemptError> {
        if pieces.is_empty() {
            return Ok(());
        }
        fault::point("lake.after_seal_before_upload");
        let committed = self.shared.lock().committed.clone();
        match committed {
            Committed::Delta(snapshot) => self.commit_delta(*snapshot, pieces).await,
            Committed::Files(_) | Committed::Unknown => self.commit_plain(&pieces).await,
        }
    }

    async fn commit_plain(&self, pieces: &[Piece]) -> Result<(), AttemptError> {
        for piece in pieces {
            self.upload(piece).await?;
            let released = self.shared.update(|state| {
                if let Committed::Files(files) = &mut state.committed {
                    files.retain(|old| plain::files_of(piece).all(|new| new.object != old.object));
                    files.extend(plain::files_of(piece));
                }
                state.rows_committed += piece.rows;
                state.committed_mark = state.committed_mark.max(piece.to);
                state.sealed.pop_front()
            });
            self.forget(released.as_slice())?;
        }
        Ok(())
    }

    async fn commit_delta(&self, known: Snapshot, pieces: Vec<Piece>) -> Result<(), AttemptError> {
        // The version we know may be old: another attempt of ours may have landed after it seemed to fail.
        let mut snapshot = known.reload(&self.config.name).await?;
        for piece in pieces.iter().filter(|piece| piece.to > snapshot.mark) {
            self.upload(piece).await?;
        }
        for _ in 0..CONFLICTS {
            let left: Vec<Piece> = pieces.iter().filter(|piece| piece.to > snapshot.mark).cloned().collect();
            if left.is_empty() {
                return self.publish(snapshot);
            }
            let (schema, now_ms) = {
                let state = self.shared.lock();
                (state.schema.clone(), i64::try_from(state.step / 1000).unwrap_or(i64::MAX))
            };
            match snapshot.commit(&self.config.name, &left, &schema, now_ms).await {
                Ok(next) => {
                    self.place.make_durable([next.commit_file()]).await?;
                    return self.publish(next);
                }
                Err(CommitError::Unfit(reason)) => return Err(AttemptError::Unfit(reason)),
                Err(CommitError::Delta(error)) => {
                    // Whether it landed is not in the error but in the table.
                    let newer = snapshot.reload(&self.config.name).await?;
                    if newer.state.version() == snapshot.state.version() {
                        return Err(error.into());
                    }
                    snapshot = newer;
                }
            }
        }
        Err(AttemptError::Conflicts)
    }

    async fn upload(&self, piece: &Piece) -> Result<(), AttemptError> {
        for file in &piece.files {
            let path = file.path.clone();
            let shown = || path.display().to_string();
            let bytes =
                tokio::fs::read(&path).await.map_err(|source| AttemptError::Sealed { path: shown(), source })?;
            if crc32c::crc32c(&bytes) != file.info.crc32c {
                return Err(AttemptError::Damaged(shown()));
            }
            let object = Path::from(file.info.object.as_str());
            self.place.table.put(&object, PutPayload::from(bytes)).await?;
        }
        self.place.make_durable(piece.files.iter().map(|file| file.info.object.clone())).await?;
        Ok(())
    }

    /// Says in health and log what is wrong, where, and which setting decides it.
    fn report(&self, error: &AttemptError) {
        let config = &self.config;
        let endpoint = match &config.store.endpoint {
            Some(endpoint) => format!(" (endpoint {endpoint})"),
            None => String::new(),
        };
        let cause = redact(config, &chain(error));
        let refused = matches!(error, AttemptError::Unfit(_));
        let message = if refused {
            format!("sink {}: {}{endpoint} cannot be used: {cause}", config.name, config.url)
        } else {
            let hint = hint(error, config);
            format!("sink {}: cannot commit to {}{endpoint}: {cause}. {hint}", config.name, config.url)
        };
        tracing::warn!(sink = %config.name, "{message}");
        self.shared.update(|state| {
            state.contacted = true;
            state.status = if refused { LakeStatus::Refused } else { LakeStatus::Degraded };
            state.message = Some(message);
        });
    }
}

/// Takes over the columns of the table that the rows here do not have yet.
fn learn(state: &mut State, table: &LakeSchema) -> Result<(), AttemptError> {
    let pending = state.buffer.rows > 0 || !state.sealed.is_empty();
    let mut merged = state.schema.clone();
    for field in table.fields() {
        match merged.lookup(&field.name) {
            Lookup::Free => {
                merged.push(field.clone());
            }
            Lookup::Column(index)
                if merged.fields().get(index).is_some_and(|ours| ours.data_type == field.data_type) => {}
            // A JSON column that another program's metadata change turned into plain text stays what it is.
            Lookup::Column(index)
                if field.data_type == LakeType::Varchar
                    && merged.fields().get(index).is_some_and(|ours| ours.data_type == LakeType::Json) => {}
            Lookup::Column(_) | Lookup::Refused => {
                let ours = merged.fields().iter().find(|ours| ours.name.eq_ignore_ascii_case(&field.name));
                if let Some(ours) = ours {
                    return Err(AttemptError::Unfit(format!(
                        "the table has column {} as {:?}, the sink has {} as {:?}{}",
                        field.name,
                        field.data_type,
                        ours.name,
                        ours.data_type,
                        if pending { " in rows that wait" } else { " declared" }
                    )));
                }
            }
        }
    }
    if table.has_raw() {
        merged.need_raw();
    }
    if merged.fields() != state.schema.fields() || merged.has_raw() != state.schema.has_raw() {
        state.schema = merged;
        state.generation += 1;
    }
    Ok(())
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let more = next.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = next.source();
    }
    text
}

/// The setting to look at.
fn hint(error: &AttemptError, config: &LakeConfig) -> &'static str {
    let store = match error {
        AttemptError::Store(store) => Some(store),
        AttemptError::Delta(DeltaTableError::ObjectStore { source }) => Some(source),
        _ => None,
    };
    let waits = "Rows wait on the local disk up to `max_backlog`";
    match store {
        Some(StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. }) => {
            "Check `access_key_id` and `secret_access_key`, and what they may do in this bucket"
        }
        Some(StoreError::NotFound { .. }) => "Check that the bucket or folder in `path` exists",
        _ if config.store.endpoint.is_some() => {
            "Check `endpoint`, `region` and the network; rows wait on the local disk up to `max_backlog`"
        }
        _ => waits,
    }
}
