//! A real client library, through the client that `hedgerow pub` and `hedgerow sub` use.

use super::*;
use crate::client::{self, ClientConfig, ClientError, Format, Protocol, Source};

#[tokio::test(flavor = "multi_thread")]
async fn pub_and_sub_in_both_versions_and_every_qos() {
    let server = Server::start().await;
    let port = server.gateway().local_addr().port();
    for protocol in [Protocol::V4, Protocol::V5] {
        for qos in 0..=2 {
            let config = ClientConfig { port, protocol, ..ClientConfig::default() };
            let before = server.gateway().sessions().len();
            let subscriber = {
                let config = config.clone();
                tokio::spawn(async move {
                    let mut out = Vec::new();
                    let filters = ["farm/#".to_owned(), "é/+".to_owned()];
                    let got = client::subscribe(&config, &filters, 1, Format::TopicPayload, Some(500), &mut out).await;
                    (got, out)
                })
            };
            until("subscribed", || {
                let sessions = server.gateway().sessions();
                sessions.len() == before + 1 && sessions.iter().any(|session| session.subscriptions.len() == 2)
            })
            .await;
            let payloads = (0..500).map(|at| at.to_string().into_bytes()).collect();
            let published = client::publish(&config, "farm/é", qos, Source::Payloads(payloads)).await;
            let rejects = Reject::ALL.map(|reason| (reason.label(), server.metrics().rejected(reason)));
            assert!(matches!(published, Ok(500)), "{protocol:?} QoS {qos}: {published:?}, {rejects:?}");
            let (got, out) = subscriber.await.unwrap();
            assert_eq!(got.unwrap(), 500);
            let expected: String = (0..500).map(|at| format!("farm/é {at}\n")).collect();
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{protocol:?} QoS {qos}");
            until("both left", || server.gateway().sessions().is_empty()).await;
        }
    }
    assert_eq!(server.logged().len(), 6 * 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_says_what_is_wrong() {
    let server = Server::start().await;
    let config = ClientConfig { port: server.gateway().local_addr().port(), ..ClientConfig::default() };
    let one = || Source::Payloads(vec![b"x".to_vec()]);
    assert!(matches!(client::publish(&config, "a/#", 1, one()).await, Err(ClientError::Usage(_))));
    assert!(matches!(client::publish(&config, "a", 3, one()).await, Err(ClientError::Usage(_))));
    let five = ClientConfig { protocol: Protocol::V5, ..config.clone() };
    let refused = client::publish(&five, "$SYS/x", 1, one()).await;
    assert!(matches!(refused, Err(ClientError::Rejected(_))), "{refused:?}");
    let shared = ["$share/g".to_owned()];
    let refused = client::subscribe(&config, &shared, 1, Format::Json, None, &mut Vec::new()).await;
    assert!(matches!(&refused, Err(ClientError::Refused(filter)) if filter == "$share/g"), "{refused:?}");
    let nobody = ClientConfig { port: 1, ..config.clone() };
    let error = client::publish(&nobody, "a", 1, one()).await.unwrap_err().to_string();
    assert!(error.contains("127.0.0.1:1"), "{error}");
    let lines = Source::Lines(Box::new(&b"one\r\ntwo\nthree"[..]));
    assert_eq!(client::publish(&config, "lines", 1, lines).await.unwrap(), 3);
    assert_eq!(server.logged(), ["one", "two", "three"]);
}
