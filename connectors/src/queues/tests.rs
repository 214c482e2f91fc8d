use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use hedgerow_engine::sink::Sink;
use hedgerow_sql::rule::{SinkDef, Statement};
use hedgerow_storage::outbox::{DeadLimits, Outbox};
use hedgerow_storage::queue::Queues;
use hedgerow_storage::table::{Store, StoreConfig};

use super::*;
use crate::config::Config;
use crate::http::queues::{
    MOST, Outgoing, QueueControl, QueueError, Receipts, ReceiveRequest, SendRequest, VisibilityRequest,
};

/// Queues in a folder, none of them open, and their clock.
pub(crate) fn in_folder(folder: &Path) -> (Arc<QueueSinks>, Arc<AtomicI64>) {
    let store = Store::open(folder, StoreConfig::default()).unwrap();
    let outbox = Outbox::open(&store, DeadLimits::default()).unwrap();
    let clock = Arc::new(AtomicI64::new(1_000_000));
    let now = Arc::clone(&clock);
    let now_ms = Arc::new(move || now.load(Ordering::SeqCst));
    let queues = Queues::open(&outbox).unwrap();
    (Arc::new(QueueSinks::new(&Config::defaults().unwrap(), queues, now_ms)), clock)
}

fn definition(text: &str) -> SinkDef {
    match hedgerow_sql::parse::parse_file(text).unwrap().into_iter().next() {
        Some(Statement::Sink(sink)) => sink,
        other => panic!("{other:?}"),
    }
}

struct Setup {
    queues: Arc<QueueSinks>,
    clock: Arc<AtomicI64>,
    sink: Box<dyn Sink>,
    _folder: tempfile::TempDir,
}

fn setup(options: &str) -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let (queues, clock) = in_folder(folder.path());
    let sink = definition(&format!("CREATE SINK jobs WITH (connector = 'queue'{options})"));
    let sink = queues.open(&sink).unwrap();
    Setup { queues, clock, sink, _folder: folder }
}

fn text(body: &str) -> Outgoing {
    Outgoing { body: Some(body.to_owned()), ..Outgoing::default() }
}

fn sending(messages: Vec<Outgoing>) -> SendRequest {
    SendRequest { messages }
}

fn asking(max: usize, wait_s: u32) -> ReceiveRequest {
    ReceiveRequest { max: Some(max), wait_s, visibility_s: None }
}

#[tokio::test]
async fn what_is_sent_is_received_with_a_receipt_and_deleted_by_it() {
    let Setup { queues, mut sink, .. } = setup("");
    let bytes = Outgoing { base64: Some("/wA=".into()), ..Outgoing::default() };
    let sent = queues.send("jobs", sending(vec![text("{\"a\": 1}"), bytes])).await.unwrap();
    let got = queues.receive("jobs", asking(10, 0)).await.unwrap().messages;
    assert_eq!(got.iter().map(|message| message.id.clone()).collect::<Vec<_>>(), sent.ids);
    assert_eq!((got[0].body.as_deref(), got[0].base64.as_deref()), (Some("{\"a\": 1}"), None));
    assert_eq!((got[1].body.as_deref(), got[1].base64.as_deref()), (None, Some("/wA=")));
    assert_eq!((got[0].received, got[0].sent_ms, got[0].visible_ms), (1, 1_000_000, 1_030_000));
    let secret = |index: usize| {
        let receipt = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(&got[index].receipt).unwrap();
        receipt[..16].to_vec()
    };
    assert_ne!(secret(0), secret(1), "one receipt does not tell the other");
    assert!(secret(0).iter().any(|byte| *byte != 0));

    let receipts = vec![got[0].receipt.clone(), "bm90aGluZw".into(), "?".into()];
    let report = queues.delete("jobs", Receipts { receipts }).await.unwrap();
    assert_eq!((report.done, report.refused.len()), (1, 2));
    let back = VisibilityRequest { receipts: vec![got[1].receipt.clone()], visibility_s: 0 };
    assert_eq!(queues.change_visibility("jobs", back).await.unwrap().done, 1);
    let again = queues.receive("jobs", asking(10, 0)).await.unwrap().messages;
    assert_eq!((again.len(), again[0].received, &again[0].id), (1, 2, &sent.ids[1]));
    assert_eq!(queues.list().await.unwrap().queues[0].in_flight, 1);
    assert_eq!(queues.purge("jobs").await.unwrap().purged, 1);
    sink.close(Duration::from_secs(1));
}

#[tokio::test]
async fn whoever_waits_is_told_of_what_comes_and_of_what_becomes_visible() {
    let Setup { queues, clock, sink: _sink, .. } = setup(", visibility = INTERVAL '1 second'");
    let waiting = tokio::spawn({
        let queues = Arc::clone(&queues);
        async move { queues.receive("jobs", asking(1, 20)).await }
    });
    // Whether it comes before or after the other waits, it is not overlooked.
    tokio::task::yield_now().await;
    queues.send("jobs", sending(vec![text("x")])).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().messages.len(), 1);

    let again = tokio::spawn({
        let queues = Arc::clone(&queues);
        async move { queues.receive("jobs", asking(1, 20)).await }
    });
    clock.fetch_add(1_000, Ordering::SeqCst);
    assert_eq!(again.await.unwrap().unwrap().messages[0].received, 2);

    // Those who wait end with the server, and with the queue.
    let last = tokio::spawn({
        let queues = Arc::clone(&queues);
        async move { queues.receive("jobs", asking(1, 20)).await }
    });
    queues.stop();
    assert_eq!(last.await.unwrap().unwrap().messages.len(), 0);
    queues.closed("jobs");
    assert!(matches!(queues.receive("jobs", asking(1, 0)).await, Err(QueueError::Unknown { .. })));
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused() {
    let Setup { queues, .. } = setup(", max_backlog = '1KiB', max_in_flight = 1");
    let error = queues.receive("job", asking(1, 0)).await.unwrap_err();
    assert!(matches!(&error, QueueError::Unknown { nearest: Some(near), .. } if near == "jobs"), "{error:?}");
    for request in [
        asking(0, 0),
        asking(MOST + 1, 0),
        asking(1, 21),
        ReceiveRequest { visibility_s: Some(43_201), ..asking(1, 0) },
    ] {
        let error = queues.receive("jobs", request).await.unwrap_err();
        assert!(matches!(error, QueueError::Wrong(_)), "{error:?}");
    }
    let both = Outgoing { body: Some("a".into()), base64: Some("YQ==".into()), delay_s: None };
    for wrong in [
        Vec::new(),
        vec![text("a"); MOST + 1],
        vec![both],
        vec![Outgoing::default()],
        vec![Outgoing { base64: Some("?".into()), ..Outgoing::default() }],
        vec![Outgoing { delay_s: Some(901), ..text("a") }],
    ] {
        let error = queues.send("jobs", sending(wrong)).await.unwrap_err();
        assert!(matches!(error, QueueError::Wrong(_)), "{error:?}");
    }
    queues.send("jobs", sending(vec![text("a"), text("b")])).await.unwrap();
    let error = queues.send("jobs", sending(vec![text(&"x".repeat(2_000))])).await.unwrap_err();
    assert!(matches!(&error, QueueError::Unavailable(why) if why.contains("max_backlog")), "{error:?}");
    assert_eq!(queues.receive("jobs", asking(10, 0)).await.unwrap().messages.len(), 1);
    let error = queues.receive("jobs", asking(1, 20)).await.unwrap_err();
    assert!(matches!(&error, QueueError::TooMany(why) if why.contains("max_in_flight")), "{error:?}");
}
