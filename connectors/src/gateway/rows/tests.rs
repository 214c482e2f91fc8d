use hedgerow_storage::table::StoreConfig;

use super::super::message::Route;
use super::*;

fn open(dir: &std::path::Path) -> Rows {
    Rows::open(Store::open(dir, StoreConfig::default()).unwrap()).unwrap()
}

#[test]
fn sessions_and_queues_are_loaded_as_stored_and_unknown_formats_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let rows = open(dir.path());
    let row = SessionRow { number: 7, client_id: "é".to_owned(), expiry_s: 60, level: 5, since_ms: -1 };
    let queued = |place: u64, packet_id, route| Queued {
        message: Arc::new(Message::new(place, 5, "a/b", &[1, 1], b"payload")),
        place,
        qos: 2,
        retain: true,
        stored: true,
        released: false,
        changed: false,
        packet_id,
        route,
    };
    let route = Arc::new(Route { identifiers: [1, 268_435_455].into(), share: Some(Arc::from("$share/g/a/#")) });
    let mut batch = Batch::new();
    rows.put_session(&mut batch, &row);
    rows.put_session(&mut batch, &SessionRow { number: 8, client_id: "d".to_owned(), ..row.clone() });
    rows.put_filter(&mut batch, 7, "a/#", 0x0D, 300);
    rows.put_received(&mut batch, 7, [1, 65_535].into_iter());
    for (place, route) in [(3, None), (256, Some(route.clone())), (70_000, None)] {
        rows.put_queued(&mut batch, 7, &queued(place, 9, route));
    }
    rows.put_queued(&mut batch, 7, &Queued { released: true, ..queued(70_001, 5, None) });
    rows.put_queued(&mut batch, 8, &queued(1, 0, None));
    batch.mark(MARK, 11);
    rows.commit(batch).unwrap();

    let loaded = rows.load_sessions().unwrap();
    assert_eq!(rows.mark(), Some(11));
    assert_eq!((loaded.len(), &loaded[0].row), (2, &row));
    assert_eq!(loaded[0].filters, [FilterRow { filter: "a/#".to_owned(), options: 0x0D, identifier: 300 }]);
    assert_eq!(loaded[0].received, [1, 65_535]);
    assert_eq!(loaded[0].queue.iter().map(|entry| entry.0).collect::<Vec<_>>(), [3, 256, 70_000, 70_001]);
    let (page, more) = rows.page(7, 3, 1, 1000).unwrap();
    let expected = queued(256, 9, Some(route));
    assert!(more && page[0].packet_id == 9 && page[0].retain && page[0].qos == 2 && !page[0].released);
    assert_eq!((&page[0].message, &page[0].route), (&expected.message, &expected.route));
    let (page, more) = rows.page(7, 3, 10, usize::MAX).unwrap();
    assert!(!more && page.len() == 3 && page[1].route.is_none());
    assert!(page[2].released && page[2].packet_id == 5 && page[2].message.payload().is_empty());

    let mut batch = Batch::new();
    batch.put(&rows.sessions, 9u64.to_be_bytes(), [1u8, 0]);
    rows.commit(batch).unwrap();
    assert!(matches!(rows.load_sessions(), Err(StoreError::Unreadable { .. })));
}

#[test]
fn connections_wills_and_retained_messages_are_loaded_as_stored() {
    let dir = tempfile::tempdir().unwrap();
    let rows = open(dir.path());
    let row = |connection| ConnectionRow {
        connection,
        session: 4,
        since_ms: 5,
        client_id: "é".to_owned(),
        principal: "p".to_owned(),
        address: "::1".to_owned(),
    };
    let will = Will {
        topic: "w".to_owned(),
        qos: 1,
        retain: true,
        delay_s: 9,
        properties: vec![1, 1],
        payload: b"gone".to_vec(),
    };
    let mut batch = Batch::new();
    rows.put_connection(&mut batch, &row(10), None);
    rows.put_connection(&mut batch, &row(11), Some(&will));
    rows.put_connection(&mut batch, &row(12), Some(&will));
    let message = Message::new(70, 80, "t/é", &[1, 1], b"kept");
    rows.put_retained(&mut batch, &message, 2);
    rows.put_retained(&mut batch, &Message::new(71, 80, "gone", &[], b"x"), 0);
    rows.commit(batch).unwrap();
    let mut batch = Batch::new();
    rows.delete_connection(&mut batch, 11);
    rows.put_waiting(&mut batch, &row(11), 99);
    rows.delete_connection(&mut batch, 12);
    rows.delete_will(&mut batch, 12, false);
    rows.delete_retained(&mut batch, "gone");
    rows.commit(batch).unwrap();
    let will = Some(Arc::new(will));
    let expected = [
        StoredConnection { row: row(10), will: None, waits_until_ms: None },
        StoredConnection { row: row(11), will, waits_until_ms: Some(99) },
    ];
    assert_eq!(rows.load_connections().unwrap(), expected);
    let mut batch = Batch::new();
    rows.delete_will(&mut batch, 11, true);
    rows.commit(batch).unwrap();
    assert_eq!(rows.load_connections().unwrap().len(), 1);
    let mut kept = Vec::new();
    rows.load_retained(|one| kept.push(one)).unwrap();
    assert_eq!((kept.len(), &*kept[0].message, kept[0].qos), (1, &message, 2));
}
