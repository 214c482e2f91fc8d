use std::sync::atomic::{AtomicI64, AtomicU16, Ordering};

use hedgerow_storage::outbox::{DeadLimits, Outbox};
use hedgerow_storage::table::{Store, StoreConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// A receiver that answers with a status that can be changed, and keeps the requests.
struct Receiver {
    port: u16,
    status: Arc<AtomicU16>,
    seen: Arc<Mutex<Vec<String>>>,
}

impl Receiver {
    async fn start(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (status, seen) = (Arc::new(AtomicU16::new(status)), Arc::<Mutex<Vec<String>>>::default());
        let (answer, requests) = (Arc::clone(&status), Arc::clone(&seen));
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut bytes = vec![0; 8_192];
                let mut text = String::new();
                while !text.ends_with('}') {
                    let read = socket.read(&mut bytes).await.unwrap();
                    text.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
                }
                requests.lock().unwrap().push(text);
                let status = answer.load(Ordering::SeqCst);
                let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
        });
        Self { port, status, seen }
    }

    fn seen(&self) -> Vec<String> {
        self.seen.lock().unwrap().clone()
    }

    fn token(&self) -> String {
        let last = self.seen().pop().unwrap();
        last.split_once("confirmationToken=").unwrap().1.split_once(' ').unwrap().0.to_owned()
    }
}

struct Fixture {
    _folder: tempfile::TempDir,
    outbox: Outbox,
    public_url: watch::Sender<Option<Arc<str>>>,
    /// Milliseconds that pass with every look.
    clock: Arc<AtomicI64>,
    url: Url,
}

impl Fixture {
    fn new(port: u16) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), StoreConfig::default()).unwrap();
        let outbox = Outbox::open(&store, DeadLimits::default()).unwrap();
        let url = Url::parse(&format!("http://127.0.0.1:{port}/in/")).unwrap();
        let public_url = watch::Sender::new(Some("http://here:8080".into()));
        Self { _folder: folder, outbox, public_url, clock: Arc::default(), url }
    }

    fn agreement(&self) -> Arc<Agreement> {
        let clock = Arc::clone(&self.clock);
        let now_ms: Arc<dyn Fn() -> i64 + Send + Sync> = Arc::new(move || clock.load(Ordering::SeqCst));
        let kept = self.outbox.confirmations().clone();
        let agreement = Agreement::open(&"hook".into(), &self.url, kept, Arc::clone(&now_ms)).unwrap();
        let allowed = [format!("127.0.0.1:{}", self.url.port().unwrap()).parse().unwrap()];
        let asking = Asking {
            client: GuardedClient::new(&allowed, Duration::from_secs(60)).unwrap(),
            notification: None,
            timeout: Duration::from_secs(60),
            backoff: Backoff { min: Duration::from_millis(5), max: Duration::from_millis(20) },
            patience: Duration::from_secs(3_600),
            public_url: self.public_url.subscribe(),
            now_ms,
        };
        agreement.start(asking, &tokio::runtime::Handle::current());
        agreement
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..6_000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}");
}

fn stored(fixture: &Fixture) -> Confirmation {
    fixture.outbox.confirmations().get("hook").unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_is_asked_as_aws_asks_and_agrees_with_the_token() {
    let receiver = Receiver::start(503).await;
    let fixture = Fixture::new(receiver.port);
    let agreement = fixture.agreement();
    until("it is asked again after a failure", || receiver.seen().len() >= 2).await;
    until("the failure is shown", || agreement.held().is_some_and(|why| why.contains("503"))).await;
    receiver.status.store(200, Ordering::SeqCst);
    until("it was told", || stored(&fixture).told).await;
    let request = receiver.seen().pop().unwrap();
    let token = receiver.token();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with(&format!("POST /in/?confirmationToken={token} HTTP/1.1")), "{head}");
    let body: serde_json::Value = serde_json::from_str(body).unwrap();
    let arn = body["arn"].as_str().unwrap();
    for header in [
        "x-amz-rules-engine-message-type: DestinationConfirmation".to_owned(),
        format!("x-amz-rules-engine-destination-arn: {arn}"),
    ] {
        assert!(head.contains(&header), "{head}");
    }
    assert_eq!(body["confirmationToken"], *token);
    assert_eq!(body["enableUrl"], format!("http://here:8080/confirmdestination/{token}"));
    assert_eq!(body["messageType"], "DestinationConfirmation");
    assert!(agreement.held().is_some());
    assert_eq!((agreement.agree("another"), agreement.agree("")), (Ok(false), Ok(false)));
    assert_eq!(agreement.agree(&token), Ok(true));
    assert_eq!((agreement.held(), agreement.agree(&token)), (None, Ok(true)));
    assert_eq!(stored(&fixture).state, ConfirmationState::Enabled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_neither_forgets_an_agreement_nor_asks_again() {
    let receiver = Receiver::start(200).await;
    let fixture = Fixture::new(receiver.port);
    let agreement = fixture.agreement();
    until("it was told", || stored(&fixture).told).await;
    agreement.stop();
    let token = receiver.token();
    let again = fixture.agreement();
    assert_eq!(again.agree(&token), Ok(true), "the token of before the restart counts");
    again.stop();
    assert_eq!(fixture.agreement().held(), None);
    assert_eq!(receiver.seen().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_disabled_or_asked_anew_does_not_take_the_old_token() {
    let receiver = Receiver::start(200).await;
    let fixture = Fixture::new(receiver.port);
    let agreement = fixture.agreement();
    until("it was told", || stored(&fixture).told).await;
    let old = receiver.token();
    agreement.set(ConfirmationState::Disabled).unwrap();
    assert_eq!((agreement.agree(&old), agreement.state()), (Ok(false), ConfirmationState::Disabled));
    agreement.set(ConfirmationState::Enabled).unwrap();
    assert_eq!(agreement.held(), None);
    agreement.set(ConfirmationState::InProgress).unwrap();
    until("it is asked anew", || receiver.seen().len() == 2).await;
    assert_ne!(receiver.token(), old);
    assert_eq!(agreement.agree(&old), Ok(false));
    assert_eq!(agreement.agree(&receiver.token()), Ok(true));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_agree_in_time_must_be_asked_again() {
    let receiver = Receiver::start(404).await;
    let fixture = Fixture::new(receiver.port);
    let agreement = fixture.agreement();
    until("it is asked", || receiver.seen().len() >= 2).await;
    let token = receiver.token();
    fixture.clock.store(3_600_000, Ordering::SeqCst);
    until("the time is over", || agreement.state() == ConfirmationState::Error).await;
    assert_eq!(agreement.agree(&token), Ok(false));
    assert!(agreement.held().is_some_and(|why| why.contains("hedgerow destinations confirm hook")));
    receiver.status.store(200, Ordering::SeqCst);
    agreement.set(ConfirmationState::InProgress).unwrap();
    until("it was told", || stored(&fixture).told).await;
    assert_eq!(agreement.agree(&receiver.token()), Ok(true));
}
