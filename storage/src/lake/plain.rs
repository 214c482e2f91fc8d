//! Lakes without a table format: Parquet files in `_date=…` folders. An upload is the commit; repeating it replaces a
//! file by the same bytes.

use futures::TryStreamExt;
use object_store::{Error as StoreError, ObjectStore};

use super::spool::Piece;

/// A committed file.
#[derive(Clone, Debug)]
pub(super) struct PlainFile {
    pub object: String,
    pub date: String,
    pub bytes: u64,
}

/// The files that are there.
pub(super) async fn list(store: &dyn ObjectStore) -> Result<Vec<PlainFile>, StoreError> {
    let all: Vec<_> = store.list(None).try_collect().await?;
    let files = all.into_iter().filter_map(|meta| {
        let object = meta.location.to_string();
        let (folder, name) = object.split_once('/')?;
        let date = folder.strip_prefix("_date=")?.to_owned();
        name.ends_with(".parquet").then(|| PlainFile { object: object.clone(), date, bytes: meta.size })
    });
    Ok(files.collect())
}

/// The files of a piece that was uploaded.
pub(super) fn files_of(piece: &Piece) -> impl Iterator<Item = PlainFile> + '_ {
    piece.files.iter().map(|file| PlainFile {
        object: file.info.object.clone(),
        date: file.info.date.clone(),
        bytes: file.info.bytes,
    })
}
