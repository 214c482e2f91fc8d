use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

/// One request as it came: head and body.
type Seen = Arc<Mutex<Vec<(String, Vec<u8>)>>>;

/// A receiver that answers each request by its path.
async fn receiver() -> (u16, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let seen = Seen::default();
    let requests = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let requests = Arc::clone(&requests);
            tokio::spawn(async move {
                let mut bytes = Vec::new();
                let head_end = loop {
                    if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                        break at + 4;
                    }
                    if socket.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                        return;
                    }
                };
                let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                while bytes.len() < head_end + length.unwrap_or(0) {
                    if socket.read_buf(&mut bytes).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                requests.lock().unwrap().push((head.clone(), bytes[head_end..].to_vec()));
                let path = head.split(' ').nth(1).unwrap();
                let (status, extra, body) = match path.trim_start_matches('/') {
                    "reset" => return,
                    "silent" => std::future::pending().await,
                    "cut" => ("200 OK", "Content-Length: 100\r\n", "short"),
                    "redirect" => ("302 Found", "Location: http://169.254.169.254/\r\n", ""),
                    "busy" => ("429 Too Many Requests", "Retry-After: 7\r\n", ""),
                    "date" => ("503 Unavailable", "Retry-After: Fri, 31 Dec 2299 23:59:59 GMT\r\n", ""),
                    "400" => ("400 Bad Request", "", "no \x1b[31mrows\x1b[0m today"),
                    "500" => ("500 Oops", "", "sorry"),
                    _ => ("200 OK", "", "fine"),
                };
                let length = if extra.contains("Length") {
                    String::new()
                } else {
                    format!("Content-Length: {}\r\n", body.len())
                };
                let _ = socket
                    .write_all(
                        format!("HTTP/1.1 {status}\r\n{extra}{length}Connection: close\r\n\r\n{body}").as_bytes(),
                    )
                    .await;
            });
        }
    });
    (port, seen)
}

fn hook(port: u16, path: &str) -> Webhook {
    let allowed = [format!("127.0.0.1:{port}").parse().unwrap()];
    Webhook {
        client: GuardedClient::new(&allowed, Duration::from_secs(5)).unwrap(),
        url: Url::parse(&format!("http://127.0.0.1:{port}{path}")).unwrap(),
        method: Method::POST,
        headers: HeaderMap::new(),
        timeout: Duration::from_millis(1_500),
        signing: None,
        batches: false,
        secrets: Granted::new(&crate::config::Config::defaults().unwrap()),
        notification: None,
        agreement: None,
    }
}

fn row(id: &str, body: &[u8], parameters: &[(&str, &str)]) -> Entry {
    let parameters = parameters.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Entry { id: id.into(), body: body.to_vec(), parameters, ..Entry::default() }
}

#[tokio::test]
async fn answers_and_the_lack_of_them_are_judged() {
    let (port, _) = receiver().await;
    let send = async |path: &str| hook(port, path).send(&[row("1", b"{}", &[])]).await;
    assert_eq!(send("/").await, Ok(Answer { status: Some(200) }));
    let again = |code: u16, pause: Option<u64>, text: &str, got: Result<Answer, Trouble>| match got {
        Err(Trouble::Again { reason, status, after }) => {
            assert_eq!((status, after), (Some(code), pause.map(Duration::from_secs)), "{reason}");
            assert!(reason.contains(text), "{reason}");
        }
        other => panic!("{other:?}"),
    };
    again(429, Some(7), "429", send("/busy").await);
    again(503, Some(3_600), "503", send("/date").await);
    again(500, None, "sorry", send("/500").await);
    match send("/400").await {
        Err(Trouble::Never { reason, status: Some(400) }) => {
            assert!(reason.contains("today") && !reason.contains('\x1b'), "{reason}");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(send("/redirect").await, Err(Trouble::Never { status: Some(302), .. })));
    for path in ["/reset", "/silent"] {
        match send(path).await {
            Err(Trouble::Again { reason, status: None, .. }) => assert!(reason.contains("127.0.0.1"), "{reason}"),
            other => panic!("{path}: {other:?}"),
        }
    }
    assert!(send("/cut").await.is_ok(), "the status says it all");
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    assert!(matches!(hook(nobody, "/").send(&[row("1", b"", &[])]).await, Err(Trouble::Again { .. })));
}

#[tokio::test]
async fn a_request_says_what_its_row_says() {
    let (port, seen) = receiver().await;
    let mut hook = hook(port, "");
    hook.headers.insert("x-fixed", HeaderValue::from_static("yes"));
    hook.signing = Some(serde_secret("k3y"));
    let parameters = [("path", "/notify/caf%C3%A9?to=a%2Fb"), ("header:X-Farm", "north")];
    hook.send(&[row("7-1-r-0", b"{\"t\":1}", &parameters)]).await.unwrap();
    hook.send(&[row("8-1-r-0", &[0xff, 0], &[])]).await.unwrap();
    let requests = seen.lock().unwrap().clone();
    let (head, body) = &requests[0];
    assert!(head.starts_with("POST /notify/caf%C3%A9?to=a%2Fb HTTP/1.1\r\n"), "{head}");
    for line in ["x-fixed: yes", "x-farm: north", "idempotency-key: 7-1-r-0", "content-type: application/json"] {
        assert!(head.lines().any(|have| have == line), "{line} in {head}");
    }
    assert_eq!(body, b"{\"t\":1}");
    let signed = head.lines().find_map(|line| line.strip_prefix("hedgerow-signature: t=")).unwrap();
    let seconds = signed.split(',').next().unwrap().parse().unwrap();
    assert_eq!(format!("t={signed}"), signature(b"k3y", seconds, "7-1-r-0", body));
    assert!(requests[1].0.contains("content-type: application/octet-stream"), "{}", requests[1].0);
}

fn serde_secret(value: &str) -> Secret {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    std::fs::write(&path, value).unwrap();
    let table = format!("s = {{ file = {path:?} }}");
    let secrets: crate::config::Secrets = toml::from_str(&table).unwrap();
    secrets.resolve("s").unwrap()
}

#[tokio::test]
async fn rows_of_a_batch_are_an_array_and_what_is_no_json_is_text() {
    let (port, seen) = receiver().await;
    let mut hook = hook(port, "/");
    hook.batches = true;
    let rows = [row("1", b"{\"a\":1.10}", &[]), row("2", b"plain \"text\"", &[]), row("3", &[0xff], &[])];
    hook.send(&rows).await.unwrap();
    hook.send(&rows[..1]).await.unwrap();
    let requests = seen.lock().unwrap().clone();
    assert_eq!(String::from_utf8_lossy(&requests[0].1), "[{\"a\":1.10},\"plain \\\"text\\\"\",\"/w==\"]");
    assert!(requests[0].0.contains("idempotency-key: 1,2,3\r\n"), "{}", requests[0].0);
    assert_eq!(requests[1].1, b"[{\"a\":1.10}]");
}

/// Values are escaped where they stand; this is the second line of defence, for whatever a template says.
#[tokio::test]
async fn no_path_leads_to_another_host_or_up() {
    let (port, seen) = receiver().await;
    let hook = hook(port, "");
    for path in ["@10.0.0.1/", ".example.com/", ":80/", "x", "/a/../b", "/%2e%2E/b", "/a/.", "/a\\..\\b", "//../x", ""]
    {
        let sent = hook.send(&[row("1", b"{}", &[("path", path)])]).await;
        assert!(matches!(sent, Err(Trouble::Never { .. })), "{path}: {sent:?}");
    }
    for name in ["header:bad name", "header:"] {
        let sent = hook.send(&[row("1", b"{}", &[(name, "x")])]).await;
        assert!(matches!(sent, Err(Trouble::Never { .. })), "{name}");
    }
    let sent = hook.send(&[row("1", b"{}", &[("header:x", "a\r\nevil: 1")])]).await;
    assert!(matches!(sent, Err(Trouble::Never { .. })), "{sent:?}");
    assert!(seen.lock().unwrap().is_empty());
    assert!(hook.send(&[row("1", b"{}", &[("path", "//other.example/x")])]).await.is_ok());
    let head = seen.lock().unwrap()[0].0.clone();
    assert!(head.starts_with("POST //other.example/x ") && head.contains("host: 127.0.0.1"), "{head}");
}

#[test]
fn dates_and_seconds_of_retry_after() {
    assert_eq!(http_date("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
    assert_eq!(http_date("Thu, 01 Jan 1970 00:00:00 GMT"), Some(0));
    assert_eq!(http_date("Tue, 29 Feb 2000 23:59:59 GMT"), Some(951_868_799));
    for wrong in ["", "tomorrow", "Sun, 06 Xxx 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:37 CET", "Sun, 06 Nov 1994"]
    {
        assert_eq!(http_date(wrong), None, "{wrong}");
    }
    assert_eq!(retry_after("0"), Some(Duration::ZERO));
    assert_eq!(retry_after(" 5 "), Some(Duration::from_secs(5)));
    assert_eq!(retry_after("Sun, 06 Nov 1994 08:49:37 GMT"), Some(Duration::ZERO));
    assert_eq!(retry_after("99999999"), Some(MAX_PAUSE));
    assert_eq!(retry_after("-1"), None);
}
