use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const CONNECT: Duration = Duration::from_secs(5);

/// Answers each lookup of any name with the next of these, the last again and again.
struct Script(Vec<Vec<IpAddr>>, AtomicUsize);

impl Script {
    fn new(answers: &[&[&str]]) -> Self {
        let parse = |answer: &&[&str]| answer.iter().map(|text| text.parse().unwrap()).collect();
        Self(answers.iter().map(parse).collect(), AtomicUsize::new(0))
    }
}

impl Lookup for Script {
    fn lookup(&self, _: String) -> BoxFuture<'static, std::io::Result<Vec<IpAddr>>> {
        let turn = self.1.fetch_add(1, Ordering::Relaxed).min(self.0.len() - 1);
        let answer = self.0[turn].clone();
        Box::pin(async move { Ok(answer) })
    }
}

fn allow(texts: &[&str]) -> Vec<AllowPrivate> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

/// Answers every connection with `response` and closes it; counts them.
async fn server(response: String) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let served = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&served);
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            let mut head = [0; 2048];
            let _ = socket.read(&mut head).await;
            let _ = socket.write_all(response.as_bytes()).await;
        }
    });
    (port, served)
}

fn ok() -> String {
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok".to_owned()
}

#[test]
fn spellings_of_closed_addresses_are_refused() {
    let client = GuardedClient::new(&[], CONNECT).unwrap();
    let tricks = [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f000001/",
        "http://0x7f.0.0.1/",
        "http://0177.0.0.1/",
        "http://017700000001/",
        "http://127.0.0.1./",
        "http://１２７.0.0.1/",
        "http://①②⑦.0.0.1/",
        "http://127。0。0。1/",
        "http://%31%32%37.0.0.1/",
        "http:127.0.0.1/",
        "http:\\\\127.0.0.1\\",
        "http://0/",
        "http://0.0.0.0:8080/",
        "http://10.1.2.3/",
        "http://169.254.169.254/latest/meta-data/",
        "http://2852039166/latest/meta-data/",
        "http://0xa9fea9fe/",
        "http://[::1]/",
        "http://[::]/",
        "http://[0:0:0:0:0:ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/",
        "http://[::ffff:a9fe:a9fe]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://[fe80::1]/",
        "http://[fd00:ec2::254]/",
        "http://localhost/",
        "http://LOCALHOST:8080/",
        "http://localhost./",
        "http://db.localhost/",
        "https://192.168.0.1/",
    ];
    for url in tricks {
        let refused = client.check(url).unwrap_err();
        assert!(matches!(refused, Refused::Private { .. }), "{url}: {refused}");
        assert!(refused.to_string().contains("allow_private"), "{refused}");
    }
    for url in ["http://[::ffff:8.8.8.8]/", "https://8.8.8.8/a?b", "http://example.com/", "https://xn--e1afmkfd.com/"] {
        assert!(client.check(url).is_ok(), "{url}");
    }
}

#[test]
fn other_schemes_logins_and_no_urls_are_refused_without_showing_the_login() {
    let client = GuardedClient::new(&[], CONNECT).unwrap();
    for url in ["file:///etc/passwd", "ftp://example.com/", "gopher://127.0.0.1:6379/_x", "data:,x", "unix:/run/x"] {
        assert!(matches!(client.check(url), Err(Refused::Scheme { .. })), "{url}");
    }
    for url in [
        "http://example.com@127.0.0.1/",
        "http://user:hunter2@example.com/",
        "http://hunter2@example.com/",
        "http://a:hunter2@b@example.com/",
    ] {
        let refused = client.check(url).unwrap_err();
        assert!(matches!(refused, Refused::UserInfo { .. }), "{url}");
        assert!(!refused.to_string().contains("hunter2"), "{refused}");
    }
    // What looks like a login behind the host is a part of the path.
    assert_eq!(client.check("http://example.com/#@10.0.0.1/").unwrap().host_str(), Some("example.com"));
    assert_eq!(client.check("http://example.com\\@10.0.0.1/").unwrap().host_str(), Some("example.com"));
    for url in ["", "example.com", "http://", "http://[::1", "http://exa mple.com/", "http://u:hunter2@[x/"] {
        let refused = client.check(url).unwrap_err();
        assert!(!refused.to_string().contains("hunter2"), "{refused}");
    }
}

#[tokio::test]
async fn a_name_is_judged_by_the_address_that_is_connected_to() {
    for address in ["127.0.0.1", "::1", "::ffff:127.0.0.1", "169.254.169.254", "10.0.0.1", "fe80::1"] {
        let client = GuardedClient::with_lookup(&[], CONNECT, Script::new(&[&[address]])).unwrap();
        let url = client.check("http://innocent.example:1/").unwrap();
        let error = client.request(Method::GET, url).unwrap().send().await.unwrap_err();
        let refused = private_name(&error).unwrap_or_else(|| panic!("{address}: {error:?}"));
        assert!(refused.to_string().contains("innocent.example"), "{refused}");
    }
}

#[tokio::test]
async fn a_name_that_changes_wins_nothing() {
    let (port, served) = server(ok()).await;
    let url: Url = format!("http://rebind.example:{port}/").parse().unwrap();
    // First a public address that refuses or times out, then loopback: nothing ever reaches the server.
    let lookup = Script::new(&[&["127.0.0.1", "127.0.0.2"], &["10.0.0.1", "127.0.0.1"], &["127.0.0.1"]]);
    let client = GuardedClient::with_lookup(&[], Duration::from_millis(200), lookup).unwrap();
    for _ in 0..3 {
        let error = client.request(Method::GET, url.clone()).unwrap().send().await.unwrap_err();
        assert!(private_name(&error).is_some(), "{error:?}");
    }
    assert_eq!(served.load(Ordering::SeqCst), 0);
    // The same name, opened: the server is reached, so the refusals above were the guard's.
    let allowed = allow(&[&format!("rebind.example:{port}")]);
    let client = GuardedClient::with_lookup(&allowed, CONNECT, Script::new(&[&["127.0.0.1"]])).unwrap();
    let answer = client.request(Method::GET, url).unwrap().send().await.unwrap();
    assert_eq!(answer.status(), 200);
    assert_eq!(served.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn of_public_and_private_addresses_only_the_public_ones_are_handed_on() {
    let guarding = Guarding { lookup: Arc::new(Script::new(&[&["10.0.0.1", "8.8.8.8", "::1"]])), open: false };
    let addresses: Vec<SocketAddr> = guarding.resolve("mixed.example".parse().unwrap()).await.unwrap().collect();
    assert_eq!(addresses, [SocketAddr::new("8.8.8.8".parse().unwrap(), 0)]);
}

#[tokio::test]
async fn an_opened_address_is_open_at_its_port_only_and_leads_nowhere_else() {
    let (inner, reached) = server(ok()).await;
    let redirect = format!(
        "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{inner}/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    );
    let (outer, asked) = server(redirect).await;
    let client = GuardedClient::new(&allow(&[&format!("127.0.0.1:{outer}")]), CONNECT).unwrap();
    let url = client.check(&format!("http://127.0.0.1:{outer}/")).unwrap();
    let answer = client.request(Method::GET, url).unwrap().send().await.unwrap();
    assert_eq!(answer.status(), 302, "a redirect is an answer, not a way");
    assert_eq!((asked.load(Ordering::SeqCst), reached.load(Ordering::SeqCst)), (1, 0));
    assert!(client.check(&format!("http://127.0.0.1:{inner}/")).is_err());
    // Another spelling of the opened address is the same address; another name is not.
    assert!(client.check(&format!("http://2130706433:{outer}/")).is_ok());
    assert!(client.check(&format!("http://localhost:{outer}/")).is_err());
}

#[test]
fn what_is_opened_is_host_and_port() {
    for text in ["", "localhost", "localhost:", ":80", "localhost:0", "localhost:70000", "a b:80", "http://x:80"] {
        assert!(text.parse::<AllowPrivate>().is_err(), "{text}");
    }
    assert_eq!("[::1]:9000".parse::<AllowPrivate>().unwrap().to_string(), "[::1]:9000");
    assert_eq!("Example.COM:443".parse::<AllowPrivate>().unwrap().to_string(), "example.com:443");
}
