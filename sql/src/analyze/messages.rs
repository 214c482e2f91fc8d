//! The actions of AWS documents that send messages. Their destinations are sinks that somebody has created, found by the
//! last part of the name that AWS knows them by.

use std::sync::Arc;

use super::actions::Parameters;
use super::outside::outside;
use crate::ast::Template;
use crate::notify;
use crate::outside::{ENCODING, Escape, FORMAT, Parameter};
use crate::parse::{Json, JsonKind};
use crate::rule::Target;

/// The connector of message queues.
const QUEUE: &str = "queue";

impl Parameters<'_> {
    /// `sqs`: a message for each row. (The shapes of the parameters were checked.)
    pub(super) fn sqs(&mut self) -> Option<Target> {
        let sink = self.last_part("queueUrl")?;
        let in_base64 = matches!(self.get("useBase64"), Some(Json { kind: JsonKind::Bool(true), .. }));
        let encoding = || Parameter::new(ENCODING, &Template::constant("base64"), Escape::None);
        Some(outside(sink, QUEUE, None, in_base64.then(encoding).into_iter().collect()))
    }

    /// `sns`: a notification for each row.
    pub(super) fn sns(&mut self) -> Option<Target> {
        let sink = self.last_part("targetArn")?;
        let by_protocol = matches!(self.get("messageFormat").map(|value| &value.kind), Some(JsonKind::String(word)) if word.text == "JSON");
        let format = || Parameter::new(FORMAT, &Template::constant("json"), Escape::None);
        Some(outside(sink, notify::CONNECTOR, None, by_protocol.then(format).into_iter().collect()))
    }

    /// The last segment of a URL, or of an ARN.
    fn last_part(&mut self, name: &str) -> Option<Arc<str>> {
        let value = self.get(name).filter(|value| matches!(value.kind, JsonKind::String(_)))?;
        let text = self.required_text(name, "")?;
        let last = text.trim_end_matches(['/', ':']).rsplit(['/', ':']).next().unwrap_or_default();
        if last.is_empty() {
            let message = format!("\"{name}\" ends without a name");
            self.reader.error("parameter", value.span, message, Some("its last part names the sink".into()));
            return None;
        }
        Some(Arc::from(last))
    }
}
