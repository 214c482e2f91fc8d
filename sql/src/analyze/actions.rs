//! The actions of AWS documents: which there are, and their parameters.

use std::sync::Arc;

use crate::ast::{Dialect, Span, Template};
use crate::diagnostic::Diagnostic;
use crate::headers::{Header, Headers};
use crate::parse::{Extract, Json, JsonKind, Member, template_parts};
use crate::rule::{Action, ItemTarget, KeyTemplate, Target};
use crate::suggest;
use crate::topic::TopicFilter;

use super::action_table;

/// Actions that are carried out.
const SUPPORTED: &[&str] = &["dynamoDB", "dynamoDBv2", "firehose", "http", "lambda", "republish", "s3", "sns", "sqs"];

/// Collects what is wrong with a document.
pub(super) struct Reader {
    pub out: Vec<Diagnostic>,
}

impl Reader {
    pub fn error(&mut self, code: &'static str, span: Span, message: String, help: Option<String>) {
        self.out.push(Diagnostic::error(code, span, message).maybe_help(help));
    }

    pub fn warning(&mut self, code: &'static str, span: Span, message: &str) {
        self.out.push(Diagnostic::warning(code, span, message));
    }

    /// A member has a value of the wrong kind. (What is no value at all was reported when it was read.)
    pub fn expected(&mut self, name: &str, wanted: &str, found: &Json) {
        if found.kind != JsonKind::Bad {
            let message = format!("\"{name}\" is {wanted}, not {}", found.kind_name());
            self.error("document", found.span, message, None);
        }
    }

    /// Members that do not belong there.
    pub fn unknown(&mut self, members: &[Member], known: &[&str], of: &str) {
        for member in members.iter().filter(|member| !known.contains(&member.name.as_str())) {
            let near = suggest::did_you_mean(&member.name, known.iter().copied());
            let help = near.unwrap_or_else(|| format!("known here: {}", known.join(", ")));
            let message = format!("{of} has no \"{}\"", member.name);
            self.error("unknown-member", member.name_span, message, Some(help));
        }
    }
}

/// One action object: `{"name": {parameters}}`.
pub(super) fn action(
    json: &Json,
    dialect: Dialect,
    filter: Option<&TopicFilter>,
    variables: &[Arc<str>],
    reader: &mut Reader,
) -> Option<Action> {
    let JsonKind::Object(members) = &json.kind else {
        reader.expected("actions", "an array of objects", json);
        return None;
    };
    let Some(first) = members.first() else {
        let help = format!("name an action: {}", SUPPORTED.join(", "));
        reader.error("action", json.span, "this action is empty".into(), Some(help));
        return None;
    };
    if let Some(second) = members.get(1) {
        let message = format!("an action has one name, and this one has `{}` and `{}`", first.name, second.name);
        let help = if is_action(&second.name) {
            format!("close the `{}` action with `}}` and open the next with `{{`", first.name)
        } else {
            format!("put `{}` into the braces of `{}`", second.name, first.name)
        };
        reader.error("action", second.name_span, message, Some(help));
    }
    let name = first.name.as_str();
    let others = action_table::of(name);
    if !SUPPORTED.contains(&name) && others.is_none() {
        let supported = SUPPORTED.join(", ");
        let near = suggest::nearest(name, SUPPORTED.iter().copied().chain(action_table::all()));
        let help = near.map(|near| format!("did you mean `{near}`? available: {supported}"));
        let help = help.unwrap_or_else(|| format!("available: {supported}"));
        reader.error("action", first.name_span, format!("there is no action `{name}`"), Some(help));
        return None;
    }
    let JsonKind::Object(parameters) = &first.value.kind else {
        reader.expected(name, "an object of parameters", &first.value);
        return None;
    };
    let mut parameters =
        Parameters { action: name, members: parameters, head: first.name_span, filter, dialect, variables, reader };
    if let Some(shapes) = others {
        parameters.check(shapes);
    }
    if !SUPPORTED.contains(&name) {
        let message = format!("the action `{name}` is not available in this version");
        let help = format!("{}; available: {}", action_table::instead(name), SUPPORTED.join(", "));
        parameters.reader.error("not-available", first.name_span, message, Some(help));
        return None;
    }
    let target = match name {
        "dynamoDB" => parameters.dynamo(),
        "dynamoDBv2" => parameters.dynamo_v2(),
        "firehose" => parameters.firehose(),
        "http" => parameters.http(),
        "lambda" => parameters.lambda(),
        "s3" => parameters.s3(),
        "sns" => parameters.sns(),
        "sqs" => parameters.sqs(),
        _ => parameters.republish(),
    }?;
    let span = Span { start: first.name_span.start, end: first.value.span.end };
    Some(Action { kind: Arc::from(name), target, span })
}

fn is_action(name: &str) -> bool {
    SUPPORTED.contains(&name) || action_table::of(name).is_some()
}

/// Whether an action is carried out.
pub(super) fn is_supported(name: &str) -> bool {
    SUPPORTED.contains(&name)
}

/// The parameters of one action.
pub(super) struct Parameters<'a> {
    pub action: &'a str,
    pub members: &'a [Member],
    /// The action's name in the document.
    pub head: Span,
    /// The rule's topic filter.
    pub filter: Option<&'a TopicFilter>,
    pub dialect: Dialect,
    variables: &'a [Arc<str>],
    pub reader: &'a mut Reader,
}

impl<'a> Parameters<'a> {
    pub(super) fn get(&self, name: &str) -> Option<&'a Json> {
        self.members.iter().find(|member| member.name == name).map(|member| &member.value)
    }

    /// Reports parameters that the action does not have.
    fn only(&mut self, known: &[&str]) {
        for member in self.members.iter().filter(|member| !known.contains(&member.name.as_str())) {
            let name = &member.name;
            let help = if is_action(name) {
                format!("close the `{}` action with `}}`", self.action)
            } else {
                suggest::did_you_mean(name, known.iter().copied())
                    .unwrap_or_else(|| format!("its parameters: {}", known.join(", ")))
            };
            let message = format!("the action `{}` has no parameter `{name}`", self.action);
            self.reader.error("parameter", member.name_span, message, Some(help));
        }
    }

    fn missing(&mut self, name: &str, example: &str) {
        let message = format!("the action `{}` needs \"{name}\"", self.action);
        self.reader.error("parameter", self.head, message, Some(format!("add \"{name}\": \"{example}\"")));
    }

    /// A text without `${…}`.
    fn text(&mut self, name: &str) -> Option<Arc<str>> {
        let value = self.get(name)?;
        let JsonKind::String(extract) = &value.kind else {
            self.reader.expected(name, "a text", value);
            return None;
        };
        if extract.text.contains("${") {
            let message = format!("`${{…}}` in \"{name}\" is not available in this version");
            self.reader.error("not-available", value.span, message, Some("write the name itself".into()));
            return None;
        }
        if extract.text.is_empty() {
            self.reader.error("parameter", value.span, format!("\"{name}\" is empty"), None);
            return None;
        }
        Some(Arc::from(extract.text.as_str()))
    }

    pub(super) fn required_text(&mut self, name: &str, example: &str) -> Option<Arc<str>> {
        if self.get(name).is_none() {
            self.missing(name, example);
        }
        self.text(name)
    }

    /// A text that may hold `${…}`; spans are those of the document.
    pub(super) fn template(&mut self, name: &str) -> Option<Template> {
        let value = self.get(name)?;
        let JsonKind::String(extract) = &value.kind else {
            self.reader.expected(name, "a text", value);
            return None;
        };
        Some(self.read_template(extract))
    }

    pub(super) fn read_template(&mut self, extract: &Extract) -> Template {
        let mut found = Vec::new();
        let mut template = template_parts(&extract.text, self.dialect, Some(self.variables), &mut found);
        self.reader.out.extend(found.into_iter().map(|diagnostic| diagnostic.mapped(|span| extract.span(span))));
        template.map_spans(&|span| extract.span(span));
        template
    }

    /// One of a few words.
    fn word(&mut self, name: &str, words: &[&str]) -> Option<String> {
        let value = self.get(name)?;
        match &value.kind {
            JsonKind::String(text) if words.contains(&text.text.as_str()) => Some(text.text.clone()),
            JsonKind::String(text) => {
                self.one_of(name, value, &text.text, words);
                None
            }
            _ => {
                self.reader.expected(name, "a text", value);
                None
            }
        }
    }

    /// Reports a text that is none of a few words.
    pub(super) fn one_of(&mut self, name: &str, value: &Json, text: &str, words: &[&str]) {
        if !words.contains(&text) {
            let near = suggest::did_you_mean(text, words.iter().copied());
            let help = near.unwrap_or_else(|| format!("write one of {}", words.join(", ")));
            let message = format!("\"{name}\" cannot be `{text}`");
            self.reader.error("parameter", value.span, message, Some(help));
        }
    }

    fn dynamo(&mut self) -> Option<Target> {
        self.only(&[
            "tableName",
            "hashKeyField",
            "hashKeyType",
            "hashKeyValue",
            "rangeKeyField",
            "rangeKeyType",
            "rangeKeyValue",
            "payloadField",
            "operation",
            "roleArn",
        ]);
        let table = self.required_text("tableName", "sensor_data");
        let hash = self.key("hashKeyField", "hashKeyType", "hashKeyValue", true);
        let names_range =
            ["rangeKeyField", "rangeKeyType", "rangeKeyValue"].iter().any(|name| self.get(name).is_some());
        let range =
            if names_range { Some(self.key("rangeKeyField", "rangeKeyType", "rangeKeyValue", false)?) } else { None };
        let payload_field = self.template("payloadField").unwrap_or_else(|| Template::constant("payload"));
        let operation = self.template("operation").unwrap_or_else(|| Template::constant("INSERT"));
        if let Some(word) = operation.as_constant()
            && !["INSERT", "UPDATE", "DELETE"].contains(&word)
        {
            self.word("operation", &["INSERT", "UPDATE", "DELETE"]);
        }
        Some(Target::Item(Box::new(ItemTarget { table: table?, hash: hash?, range, payload_field, operation })))
    }

    fn key(&mut self, field: &str, ty: &str, value: &str, hash: bool) -> Option<KeyTemplate> {
        let (field_example, value_example) = if hash { ("id", "${topic(2)}") } else { ("ts", "${timestamp()}") };
        let field = self.required_text(field, field_example);
        let number = self.get(ty).is_some() && self.word(ty, &["STRING", "NUMBER"]).as_deref() == Some("NUMBER");
        if self.get(value).is_none() {
            self.missing(value, value_example);
        }
        let value = self.template(value);
        Some(KeyTemplate { field: field?, number, value: value? })
    }

    fn dynamo_v2(&mut self) -> Option<Target> {
        self.only(&["putItem", "roleArn"]);
        let Some(item) = self.get("putItem") else {
            let message = "the action `dynamoDBv2` needs \"putItem\"".to_owned();
            let help = "add \"putItem\": {\"tableName\": \"sensor_data\"}".to_owned();
            self.reader.error("parameter", self.head, message, Some(help));
            return None;
        };
        let JsonKind::Object(members) = &item.kind else {
            self.reader.expected("putItem", "an object", item);
            return None;
        };
        self.members = members;
        self.only(&["tableName"]);
        self.required_text("tableName", "sensor_data").map(Target::Named)
    }

    fn firehose(&mut self) -> Option<Target> {
        self.only(&["deliveryStreamName", "separator", "batchMode", "roleArn"]);
        let stream = self.required_text("deliveryStreamName", "farm_lake");
        if let Some(value) = self.get("separator")
            && self.word("separator", &["\n", "\t", "\r\n", ","]).is_some()
        {
            let message = "\"separator\" has no effect: a lake stores rows, not lines";
            self.reader.warning("no-effect", value.span, message);
        }
        match self.get("batchMode") {
            None | Some(Json { kind: JsonKind::Bool(false), .. }) => {}
            Some(Json { kind: JsonKind::Bool(true), span }) => {
                let message = "\"batchMode\" is not available in this version".to_owned();
                self.reader.error("not-available", *span, message, Some("each message is one row".into()));
            }
            Some(other) => self.reader.expected("batchMode", "true or false", other),
        }
        stream.map(Target::Named)
    }

    fn republish(&mut self) -> Option<Target> {
        self.only(&["topic", "qos", "headers", "roleArn"]);
        if self.get("topic").is_none() {
            self.missing("topic", "alerts/${topic(2)}");
        }
        let topic = self.template("topic");
        let qos = match self.get("qos").map(|value| (&value.kind, value)) {
            None => 0,
            Some((JsonKind::Number(number), _)) if number == "0" => 0,
            Some((JsonKind::Number(number), _)) if number == "1" => 1,
            Some((JsonKind::String(text), _)) if text.text == "0" => 0,
            Some((JsonKind::String(text), _)) if text.text == "1" => 1,
            Some((_, value)) => {
                self.reader.expected("qos", "0 or 1", value);
                0
            }
        };
        let headers = self.mqtt_headers();
        Some(Target::Topic { topic: topic?, qos, retain: false, headers: Box::new(headers) })
    }

    /// The MQTT 5 properties of what is published.
    fn mqtt_headers(&mut self) -> Headers {
        let mut headers = Headers::default();
        let Some(value) = self.get("headers") else { return headers };
        let JsonKind::Object(members) = &value.kind else {
            self.reader.expected("headers", "an object", value);
            return headers;
        };
        let names = Header::ALL.map(Header::name);
        let known: Vec<&str> = names.into_iter().chain(["userProperties"]).collect();
        self.reader.unknown(members, &known, "\"headers\"");
        let get = |name: &str| members.iter().find(|member| member.name == name).map(|member| &member.value);
        for header in Header::ALL {
            let Some(value) = get(header.name()) else { continue };
            let template = match &value.kind {
                JsonKind::Number(number) if header == Header::MessageExpiry => Template::constant(number.as_str()),
                _ => match self.header(header.name(), value) {
                    Some(template) => template,
                    None => continue,
                },
            };
            if let Some(text) = template.as_constant().filter(|text| !text.is_empty())
                && let Err(reason) = header.write(text, &mut Vec::new())
            {
                self.reader.error("parameter", value.span, reason, None);
            }
            headers.single.push((header, template));
        }
        if let Some(value) = get("userProperties") {
            headers.user = self.user_properties(value);
        }
        headers
    }

    fn header(&mut self, name: &str, value: &Json) -> Option<Template> {
        let JsonKind::String(extract) = &value.kind else {
            self.reader.expected(name, "a text", value);
            return None;
        };
        Some(self.read_template(extract))
    }

    fn user_properties(&mut self, value: &Json) -> Vec<(Template, Template)> {
        const MOST: usize = 100;
        let JsonKind::Array(items) = &value.kind else {
            self.reader.expected("userProperties", "an array of objects", value);
            return Vec::new();
        };
        if items.len() > MOST {
            let message = format!("\"userProperties\" has {} entries, and may have {MOST}", items.len());
            self.reader.error("parameter", value.span, message, None);
        }
        let mut pairs = Vec::new();
        for item in items {
            let JsonKind::Object(members) = &item.kind else {
                self.reader.expected("userProperties", "an array of objects", item);
                continue;
            };
            self.reader.unknown(members, &["key", "value"], "a user property");
            let mut part = |name: &str| {
                let Some(member) = members.iter().find(|member| member.name == name) else {
                    let message = format!("a user property needs \"{name}\"");
                    self.reader.error("parameter", item.span, message, None);
                    return None;
                };
                self.header(name, &member.value)
            };
            if let (Some(key), Some(value)) = (part("key"), part("value")) {
                pairs.push((key, value));
            }
        }
        pairs
    }
}
