//! Actions of AWS documents that send something somewhere: from their parameters to the sink that sends, and what it is
//! told with every row.
//!
//! The sink of such an action is a sink like any other. What is the same for all rows stands in its CREATE SINK, which
//! comes into force with the document unless somebody has created a sink of that name; what differs from row to row is
//! a parameter of the action.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::ast::{Span, Template, TemplatePart};
use crate::outside::{Escape, HEADER, KEY, PATH, Parameter, check_header};
use crate::parse::{JsonKind, print_statement};
use crate::rule::{OptionValue, OutsideTarget, SinkDef, Statement, Target};

use super::actions::Parameters;

/// The connectors of the sinks.
const WEBHOOK: &str = "webhook";
const LAMBDA: &str = "lambda";
const S3: &str = "s3";
/// How often AWS tries.
const TRIES: &str = "3";
/// How long AWS waits for an answer.
const HTTP_TIMEOUT_US: u64 = 3_000_000;
/// The longest readable part of a sink's name.
const MAX_SLUG: usize = 96;

/// A URL of a document: what is fixed, and what may differ from row to row.
struct Address {
    /// Scheme, host and port.
    origin: String,
    /// Path and query; empty if there are none.
    rest: Template,
    /// Everything before the first `${`.
    known: String,
}

impl Parameters<'_> {
    /// `http`: POST of the result.
    pub(super) fn http(&mut self) -> Option<Target> {
        let address = self.address("url");
        let confirmed = self.confirmation();
        let mut parameters = self.headers();
        if let Some(auth) = self.get("auth") {
            let message = "\"auth\" (a signature of AWS) is not available in this version".to_owned();
            let help = "create the sink yourself, with signing_secret = SECRET('…'), or send a header";
            self.reader.error("not-available", auth.span, message, Some(help.into()));
        }
        let address = address?;
        if let (Some((confirmed, origin)), Some(url)) = (&confirmed, self.get("url"))
            && (!address.known.starts_with(confirmed.as_str()) || address.origin != *origin)
        {
            let message = "\"url\" does not begin with \"confirmationUrl\"".to_owned();
            let help = "a URL is confirmed together with all that begin with it, up to the first `${`".to_owned();
            self.reader.error("parameter", url.span, message, Some(help));
        }
        if !address.rest.parts.is_empty() {
            parameters.push(Parameter::new(PATH, &address.rest, Escape::Url));
        }
        let confirmed = confirmed.map(|(confirmed, _)| confirmed);
        let sink = sink_name(confirmed.as_ref().unwrap_or(&address.origin));
        let mut options = vec![
            ("url".into(), OptionValue::String(address.origin.into())),
            ("timeout".into(), OptionValue::Interval(HTTP_TIMEOUT_US)),
            ("max_attempts".into(), OptionValue::Number(TRIES.into())),
        ];
        options.extend(
            confirmed.map(|confirmed| ("confirmation_url".into(), OptionValue::String(confirmed.as_str().into()))),
        );
        Some(outside(sink, WEBHOOK, Some(options), parameters))
    }

    /// `lambda`: the result is handed to a function, which nobody waits for.
    pub(super) fn lambda(&mut self) -> Option<Target> {
        let function = self.required_text("functionArn", "arn:aws:lambda:eu-west-1:123456789012:function:notify")?;
        let options = vec![("function".into(), OptionValue::String(Arc::clone(&function)))];
        Some(outside(function_sink(&function), LAMBDA, Some(options), Vec::new()))
    }

    /// `s3`: the result is an object.
    pub(super) fn s3(&mut self) -> Option<Target> {
        let bucket = if self.get("bucketName").is_some() { "bucketName" } else { "bucket" };
        let bucket = self.required_text(bucket, "farm-objects");
        let key = self.template("key");
        if let Some(acl) = self.get("cannedAcl").or_else(|| self.get("cannedacl"))
            && !matches!(&acl.kind, JsonKind::String(word) if word.text == "private")
        {
            let message = "the ACL has no effect: who may read an object is the bucket's business";
            self.reader.warning("no-effect", acl.span, message);
        }
        Some(outside(bucket?, S3, None, vec![Parameter::new(KEY, &key?, Escape::None)]))
    }

    /// The URL that has to be confirmed, and its origin.
    fn confirmation(&mut self) -> Option<(String, String)> {
        let span = self.get("confirmationUrl")?.span;
        let address = self.address("confirmationUrl")?;
        let refuse = |this: &mut Self, message: &str, help: &str| {
            this.reader.error("parameter", span, message.to_owned(), Some(help.to_owned()));
            None
        };
        let Some(rest) = address.rest.as_constant() else {
            let help = "write the URL itself: it is confirmed once, for all messages";
            return refuse(self, "\"confirmationUrl\" takes no `${…}`", help);
        };
        if rest.contains(['?', '#']) {
            return refuse(self, "\"confirmationUrl\" has no query", "the token is sent as ?confirmationToken=…");
        }
        Some((format!("{}{rest}", address.origin), address.origin))
    }

    /// A URL in which scheme, host and port are fixed. (That it begins like a URL was checked with its shape.)
    fn address(&mut self, name: &str) -> Option<Address> {
        let value = self.get(name)?;
        let JsonKind::String(extract) = &value.kind else { return None };
        let template = self.read_template(extract);
        let known = match template.parts.first() {
            Some(TemplatePart::Text(text)) => text.to_string(),
            _ => String::new(),
        };
        let after_scheme = known.find("://")? + 3;
        let end = known.get(after_scheme..)?.find(['/', '?', '#']).map(|at| after_scheme + at);
        let Some(end) = end.or((template.parts.len() == 1).then_some(known.len())) else {
            let message = format!("scheme, host and port of \"{name}\" are fixed");
            let help = "`${…}` may stand in its path and in its query".to_owned();
            self.reader.error("parameter", value.span, message, Some(help));
            return None;
        };
        let (origin, path) = known.split_at(end);
        let host = origin.get(after_scheme..).unwrap_or_default();
        if host.is_empty() || !host.chars().all(|c| c.is_alphanumeric() || ".-_:[]".contains(c)) {
            let message = format!("\"{name}\" has no host that could be sent to");
            let help = "it begins like https://example.com/; a user name or a password does not stand in it".to_owned();
            self.reader.error("parameter", value.span, message, Some(help));
            return None;
        }
        if extract.text.contains('#') {
            let message = format!("\"{name}\" has a `#`, behind which nothing is sent");
            self.reader.error("parameter", value.span, message, Some("write %23 if the sign itself is meant".into()));
            return None;
        }
        let mut parts: Vec<TemplatePart> = template.parts.get(1..).unwrap_or_default().to_vec();
        if !path.is_empty() {
            parts.insert(0, TemplatePart::Text(path.into()));
        }
        Some(Address { origin: origin.to_owned(), rest: Template { parts }, known })
    }

    /// The headers of an `http` action, each a parameter.
    fn headers(&mut self) -> Vec<Parameter> {
        let Some(JsonKind::Array(items)) = self.get("headers").map(|value| &value.kind) else { return Vec::new() };
        let mut headers: Vec<Parameter> = Vec::new();
        for item in items {
            let JsonKind::Object(members) = &item.kind else { continue };
            let text = |name: &str| match members.iter().find(|member| member.name == name).map(|m| &m.value) {
                Some(value) => match &value.kind {
                    JsonKind::String(extract) => Some((extract, value.span)),
                    _ => None,
                },
                None => None,
            };
            let (Some((key, key_span)), Some((value, value_span))) = (text("key"), text("value")) else { continue };
            let name = key.text.to_ascii_lowercase();
            if let Err(why) = check_header(&name) {
                self.reader.error("parameter", key_span, format!("the header `{}`: {why}", key.text), None);
                continue;
            }
            let template = self.read_template(value);
            let parameter = Parameter::with_secrets(format!("{HEADER}{name}"), &template, Escape::None);
            if let Some(constant) = parameter.as_constant() {
                self.check_value(&name, &constant, value_span);
            }
            if headers.iter().any(|known| known.name == parameter.name) {
                self.reader.error("parameter", key_span, format!("the header `{}` is given twice", key.text), None);
            }
            headers.push(parameter);
        }
        headers
    }

    fn check_value(&mut self, name: &str, value: &str, span: Span) {
        if name == "authorization" {
            let message = "this is a credential, and a document is kept in the log".to_owned();
            let help = "name it: \"value\": \"${get_secret('pager', 'SecretString', 'role')}\", and give its value in \
                        the configuration";
            self.reader.error("secret", span, message, Some(help.to_owned()));
        } else if value.chars().any(|c| c.is_control() && c != '\t') {
            let message = "the value of a header holds no control characters".to_owned();
            self.reader.error("parameter", span, message, None);
        }
    }
}

/// An action that sends through the sink `sink`. With options the sink is made if there is none.
pub(super) fn outside(
    sink: Arc<str>,
    connector: &'static str,
    options: Option<Vec<(Arc<str>, OptionValue)>>,
    parameters: Vec<Parameter>,
) -> Target {
    let definition = options.map(|options| {
        let (name, text) = (Arc::clone(&sink), "".into());
        let sink = SinkDef { name, columns: Vec::new(), connector: connector.into(), options, text };
        print_statement(&Statement::Sink(sink)).into()
    });
    Target::Outside(Box::new(OutsideTarget { sink, connector, definition, parameters }))
}

/// The name of the sink of a URL: readable, and another one for each URL.
fn sink_name(url: &str) -> Arc<str> {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '.' | '-');
    let (scheme, rest) = url.split_once("://").unwrap_or(("http", url));
    let mut slug: String = format!("{scheme}-{rest}").chars().map(|c| if plain(c) { c } else { '-' }).collect();
    slug.truncate(MAX_SLUG);
    if rest.chars().all(plain) && slug.len() == scheme.len() + 1 + rest.len() {
        return slug.into();
    }
    format!("{}-{}", slug.trim_end_matches('-'), hash(url)).into()
}

/// The name of the sink of a function: that of the function, if nothing else is said of it.
fn function_sink(function: &str) -> Arc<str> {
    let name = function.split_once(":function:").map_or(function, |(_, rest)| rest.split(':').next().unwrap_or(rest));
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let mut slug: String = name.chars().map(|c| if plain(c) { c } else { '-' }).collect();
    slug.truncate(MAX_SLUG);
    if slug == function { format!("lambda-{slug}").into() } else { format!("lambda-{slug}-{}", hash(function)).into() }
}

/// Tells apart what reads alike.
fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::analyze::parse_document;
    use crate::rule::Action;

    fn action(json: &str) -> Action {
        let text = format!(
            "{{\"sql\": \"SELECT * FROM 'a/+'\", \"awsIotSqlVersion\": \"2016-03-23\", \"actions\": [{json}]}}"
        );
        let rule = parse_document("r", &text).unwrap_or_else(|found| panic!("{json}: {found:?}"));
        rule.actions.into_iter().next().unwrap()
    }

    fn target(json: &str) -> OutsideTarget {
        match action(json).target {
            Target::Outside(outside) => *outside,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_http_action_is_a_webhook_and_what_differs_by_row() {
        let target = target(
            "{\"http\": {\"url\": \"https://example.com/in/${topic(2)}?a=${b}\", \"confirmationUrl\": \"https://example.com/in\",
              \"headers\": [{\"key\": \"X-Farm\", \"value\": \"n ${c}\"}]}}",
        );
        let slug = "https-example.com-in-";
        assert!(target.sink.starts_with(slug) && target.sink.len() == slug.len() + 8, "{}", target.sink);
        assert_eq!(
            target.definition.as_deref(),
            Some(&*format!(
                "CREATE SINK \"{}\" WITH (connector = 'webhook', url = 'https://example.com', timeout = INTERVAL '3 seconds', max_attempts = 3, confirmation_url = 'https://example.com/in')",
                target.sink
            ))
        );
        let names: Vec<&str> = target.parameters.iter().map(|parameter| &*parameter.name).collect();
        assert_eq!(names, ["header:x-farm", "path"]);
        let action = action("{\"http\": {\"url\": \"https://example.com/a/${b}/${c}\"}}");
        assert_eq!((action.template_count(), action.templates().len()), (2, 2));
    }

    #[test]
    fn the_definition_of_a_sink_can_be_read_again() {
        for url in ["https://example.com", "http://127.0.0.1:9000/a'b", "https://[::1]:8443/x?y=1"] {
            let target = target(&format!("{{\"http\": {{\"url\": \"{url}\"}}}}"));
            let text = target.definition.unwrap();
            let statements = crate::parse::parse_file(&text).unwrap_or_else(|found| panic!("{text}: {found:?}"));
            match statements.as_slice() {
                [Statement::Sink(sink)] => assert_eq!((&*sink.name, &*sink.text), (&*target.sink, &*text)),
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn a_function_has_a_sink_and_a_bucket_is_one() {
        let by_name = target("{\"lambda\": {\"functionArn\": \"notify\"}}");
        assert_eq!((&*by_name.sink, by_name.connector), ("lambda-notify", "lambda"));
        assert_eq!(
            by_name.definition.as_deref(),
            Some("CREATE SINK \"lambda-notify\" WITH (connector = 'lambda', function = 'notify')")
        );
        let arn = "arn:aws:lambda:eu-west-1:123456789012:function:notify:prod";
        let by_arn = target(&format!("{{\"lambda\": {{\"functionArn\": \"{arn}\"}}}}"));
        assert!(by_arn.sink.starts_with("lambda-notify-") && by_arn.definition.unwrap().contains(arn));
        let object = target("{\"s3\": {\"bucket\": \"farm-objects\", \"key\": \"${topic(2)}/a.json\"}}");
        assert_eq!((&*object.sink, object.definition), ("farm-objects", None));
        assert_eq!((&*object.parameters[0].name, object.parameters[0].as_constant()), ("key", None));
    }

    #[test]
    fn every_url_has_a_name_of_its_own() {
        assert_eq!(&*sink_name("https://a-b.example.com"), "https-a-b.example.com");
        let urls = ["https://a.b/c", "https://a.b/C", "https://a.b-c", "http://a.b:80", "http://a.b/80", "https://A.b"];
        let names: std::collections::BTreeSet<Arc<str>> = urls.iter().map(|url| sink_name(url)).collect();
        assert_eq!(names.len(), urls.len());
        assert!(sink_name(&format!("https://{}", "a".repeat(500))).len() <= 128);
    }
}
