//! Notifications in the form that Amazon SNS posts them in, for receivers that know it (the option `notification` of a
//! webhook): what a row becomes, and how a receiver is asked beforehand whether it wants any.
//!
//! The members are those of SNS but for its signature, which needs a key of Amazon: ours is the header
//! `Hedgerow-Signature`, over time, id and the whole body (see [`super::signature`]).

use hedgerow_storage::outbox::Entry;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::json;

const TYPE: HeaderName = HeaderName::from_static("x-amz-sns-message-type");
const ID: HeaderName = HeaderName::from_static("x-amz-sns-message-id");
const ARN: HeaderName = HeaderName::from_static("x-amz-sns-topic-arn");
/// SNS sends JSON under this type.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=UTF-8");

/// What a post is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Notification,
    SubscriptionConfirmation,
}

impl Kind {
    fn word(self) -> &'static str {
        match self {
            Self::Notification => "Notification",
            Self::SubscriptionConfirmation => "SubscriptionConfirmation",
        }
    }
}

/// The topic whose notifications a webhook sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Notification {
    arn: String,
}

impl Notification {
    /// Of the topic of this name.
    pub fn of(topic: &str) -> Self {
        Self { arn: format!("arn:aws:sns:local:000000000000:{topic}") }
    }

    /// A row as a notification.
    pub fn body(&self, entry: &Entry) -> Vec<u8> {
        let body = json!({
            "Type": Kind::Notification.word(),
            "MessageId": entry.id,
            "TopicArn": self.arn,
            "Message": String::from_utf8_lossy(&entry.body),
            "Timestamp": iso8601(entry.time_ms),
        });
        body.to_string().into_bytes()
    }

    /// The headers of a row.
    pub fn headers(&self, id: &str) -> Result<HeaderMap, String> {
        self.headers_of(Kind::Notification, id)
    }

    /// Asks whether notifications are wanted: they are once `subscribe_url` has been visited.
    pub fn asking(
        &self,
        id: &str,
        token: &str,
        subscribe_url: &str,
        now_ms: i64,
    ) -> Result<(HeaderMap, String), String> {
        let message = format!("You are to get the notifications of {}. Visit the SubscribeURL to agree.", self.arn);
        let body = json!({
            "Type": Kind::SubscriptionConfirmation.word(),
            "MessageId": id,
            "Token": token,
            "TopicArn": self.arn,
            "Message": message,
            "SubscribeURL": subscribe_url,
            "Timestamp": iso8601(now_ms),
        });
        Ok((self.headers_of(Kind::SubscriptionConfirmation, id)?, body.to_string()))
    }

    fn headers_of(&self, kind: Kind, id: &str) -> Result<HeaderMap, String> {
        let value = |bytes: &str| HeaderValue::from_bytes(bytes.as_bytes()).map_err(|error| error.to_string());
        let mut headers = HeaderMap::new();
        headers.insert(TYPE, HeaderValue::from_static(kind.word()));
        headers.insert(ID, value(id)?);
        headers.insert(ARN, value(&self.arn)?);
        headers.insert(CONTENT_TYPE, TEXT);
        Ok(headers)
    }
}

/// `2026-11-23T07:40:27.123Z`.
fn iso8601(ms: i64) -> String {
    let (days, in_day) = (ms.div_euclid(86_400_000), ms.rem_euclid(86_400_000));
    // Years from March, so that the leap day is the last of a year; the era of 400 years from 0000-03-01.
    let since = days + 719_468;
    let (era, day_of_era) = (since.div_euclid(146_097), since.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (in_day / 3_600_000, in_day / 60_000 % 60, in_day / 1_000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", in_day % 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_the_calendar_has_them() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_582_934_400_001, "2020-02-29T00:00:00.001Z"),
            (1_600_000_000_000, "2020-09-13T12:26:40.000Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(iso8601(ms), text);
        }
    }

    #[test]
    fn a_row_is_a_notification_with_its_own_id_and_time() {
        let entry = Entry { id: "7-1-r-0".into(), time_ms: 0, body: b"{\"a\": 1}".to_vec(), ..Entry::default() };
        let of = Notification::of("alarms");
        let body: serde_json::Value = serde_json::from_slice(&of.body(&entry)).unwrap();
        let expected = json!({"Type": "Notification", "MessageId": "7-1-r-0", "Message": "{\"a\": 1}",
            "TopicArn": "arn:aws:sns:local:000000000000:alarms", "Timestamp": "1970-01-01T00:00:00.000Z"});
        assert_eq!(body, expected);
        assert_eq!(of.headers("7-1-r-0").unwrap()[TYPE], "Notification");
        let (headers, body) = of.asking("i", "t", "http://x/confirm", 0).unwrap();
        assert_eq!(headers[TYPE], "SubscriptionConfirmation");
        assert!(body.contains("\"SubscribeURL\":\"http://x/confirm\"") && body.contains("\"Token\":\"t\""), "{body}");
    }
}
