//! Destinations that have to confirm, over HTTP.

use super::super::destinations::{DestinationChange, DestinationControl, DestinationError, DestinationReport};
use super::{Fake, answer, start};

impl DestinationControl for Fake {
    fn agree(&self, token: &str) -> Result<Option<DestinationReport>, String> {
        Ok((token == "right").then(|| DestinationReport { name: "hook".into(), state: "ENABLED".into() }))
    }

    fn change(&self, name: &str, change: DestinationChange) -> Result<DestinationReport, DestinationError> {
        match name {
            "hook" => Ok(DestinationReport { name: name.into(), state: format!("{change:?}") }),
            "plain" => Err(DestinationError::NeedsNone(name.into())),
            _ => Err(DestinationError::Unknown { name: name.into(), nearest: Some("hook".into()) }),
        }
    }
}

#[tokio::test]
async fn a_receiver_confirms_without_the_token_of_the_api_and_with_its_own() {
    let setup = start(&[("HEDGEROW_HTTP_PUBLIC_URL", "https://farm.example:444")]).await;
    let http = reqwest::Client::new();
    let agreed = http.get(setup.url("/confirmdestination/right")).send().await.unwrap();
    assert_eq!(agreed.status(), 200);
    assert_eq!(agreed.json::<DestinationReport>().await.unwrap().state, "ENABLED");
    assert_eq!(http.post(setup.url("/confirmdestination/right")).send().await.unwrap().status(), 200);
    assert_eq!(http.get(setup.url("/confirmdestination/wrong")).send().await.unwrap().status(), 404);
    for path in ["/confirmdestination", "/destinations/hook/enable", "/x/confirmdestination/right"] {
        assert_eq!(http.post(setup.url(path)).send().await.unwrap().status(), 401, "{path}");
    }
    let request =
        |host: &str| format!("GET /confirmdestination/right HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    assert!(setup.raw(&request("farm.example")).await.starts_with("HTTP/1.1 200"), "the public host is allowed");
    assert!(setup.raw(&request("evil.example")).await.starts_with("HTTP/1.1 403"));
}

#[tokio::test]
async fn destinations_are_changed_by_name() {
    let setup = start(&[]).await;
    let changed = setup.client.change_destination("hook", "disable").await.unwrap();
    assert_eq!((changed.name.as_str(), changed.state.as_str()), ("hook", "Disable"));
    for (name, change, status) in [("plain", "enable", 409), ("hok", "confirm", 404), ("hook", "drop", 404)] {
        let (found, message, _) = answer(setup.client.change_destination(name, change).await.unwrap_err());
        assert_eq!(found, status, "{message}");
    }
}
