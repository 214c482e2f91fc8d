//! The parameters of the AWS actions, as far as they are checked by what they look like. A document that names an action
//! which is not carried out is told everything that is wrong with it, and then that the action is not available.
//!
//! The source is the table of rule actions in the AWS IoT developer guide.

/// A parameter of an action, or a member of one that is an object.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parameter {
    pub name: &'static str,
    pub required: bool,
    pub shape: Shape,
}

/// What a parameter must be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Shape {
    /// A text that may hold `${…}`.
    Template,
    /// A text without `${…}`.
    Text,
    /// One of these words, or a template that makes one.
    Word(&'static [&'static str]),
    /// One of these words.
    FixedWord(&'static [&'static str]),
    /// `true` or `false`.
    Bool,
    /// An `http` or `https` URL, which may hold `${…}`.
    Url,
    /// An object with these members.
    Object(&'static [Parameter]),
    /// An array of at most so many objects with these members.
    Array(&'static [Parameter], usize),
    /// An object of texts, whatever their names.
    Texts,
}

use Shape::{Array, Bool, FixedWord, Object, Template, Text, Texts, Url, Word};

const fn need(name: &'static str, shape: Shape) -> Parameter {
    Parameter { name, required: true, shape }
}

const fn may(name: &'static str, shape: Shape) -> Parameter {
    Parameter { name, required: false, shape }
}

/// Who acts: accepted everywhere, and not looked at.
const ROLE: Parameter = may("roleArn", Text);
const BATCH: Parameter = may("batchMode", Bool);
const TIME_UNITS: &[&str] = &["SECONDS", "MILLISECONDS", "MICROSECONDS", "NANOSECONDS"];
const ACLS: &[&str] = &[
    "private",
    "public-read",
    "public-read-write",
    "aws-exec-read",
    "authenticated-read",
    "bucket-owner-read",
    "bucket-owner-full-control",
    "log-delivery-write",
];
const SEARCH: &[Parameter] =
    &[need("endpoint", Url), need("index", Template), need("type", Template), need("id", Template), ROLE];
const NAMED_VALUE: &[Parameter] = &[need("key", Text), need("value", Template)];
const SIGNATURE: &[Parameter] = &[need("signingRegion", Text), need("serviceName", Text), need("roleArn", Text)];
const SITE_VALUE: &[Parameter] = &[
    may("booleanValue", Template),
    may("doubleValue", Template),
    may("integerValue", Template),
    may("stringValue", Template),
];
const SITE_TIME: &[Parameter] = &[need("timeInSeconds", Template), may("offsetInNanos", Template)];
const SITE_PROPERTY: &[Parameter] = &[
    need("timestamp", Object(SITE_TIME)),
    may("quality", Word(&["GOOD", "BAD", "UNCERTAIN"])),
    need("value", Object(SITE_VALUE)),
];
const SITE_ENTRY: &[Parameter] = &[
    may("propertyAlias", Template),
    may("assetId", Template),
    may("propertyId", Template),
    may("entryId", Template),
    need("propertyValues", Array(SITE_PROPERTY, 10)),
];
const DIMENSION: &[Parameter] = &[need("name", Text), need("value", Template)];
const TIMESTREAM_TIME: &[Parameter] = &[need("value", Template), need("unit", Word(TIME_UNITS))];
const LOCATION_TIME: &[Parameter] = &[need("value", Template), may("unit", Word(TIME_UNITS))];

/// The actions by their names, old spellings included.
const ACTIONS: &[(&[&str], &[Parameter])] = &[
    (
        &["cloudwatchAlarm", "cloudwatchalarm"],
        &[
            need("alarmName", Template),
            need("stateReason", Template),
            need("stateValue", Word(&["OK", "ALARM", "INSUFFICIENT_DATA"])),
            ROLE,
        ],
    ),
    (&["cloudwatchLogs"], &[need("logGroupName", Template), BATCH, ROLE]),
    (
        &["cloudwatchMetric"],
        &[
            need("metricName", Template),
            need("metricNamespace", Template),
            need("metricUnit", Template),
            need("metricValue", Template),
            may("metricTimestamp", Template),
            ROLE,
        ],
    ),
    (&["elasticsearch", "openSearch", "opensearch"], SEARCH),
    (
        &["http"],
        &[
            need("url", Url),
            may("confirmationUrl", Url),
            may("headers", Array(NAMED_VALUE, 100)),
            may("auth", Object(&[need("sigv4", Object(SIGNATURE))])),
        ],
    ),
    (&["iotAnalytics"], &[may("channelName", Template), may("channelArn", Text), BATCH, ROLE]),
    (&["iotEvents"], &[need("inputName", Template), may("messageId", Template), BATCH, ROLE]),
    (&["iotSiteWise"], &[need("putAssetPropertyValueEntries", Array(SITE_ENTRY, 10)), ROLE]),
    (
        &["kafka"],
        &[
            need("destinationArn", Text),
            need("topic", Template),
            may("key", Template),
            may("partition", Template),
            may("headers", Array(&[need("key", Template), need("value", Template)], 100)),
            need("clientProperties", Texts),
        ],
    ),
    (&["kinesis"], &[need("streamName", Template), may("partitionKey", Template), ROLE]),
    (&["lambda"], &[need("functionArn", Template)]),
    (
        &["location"],
        &[
            need("trackerName", Template),
            need("deviceId", Template),
            may("timestamp", Object(LOCATION_TIME)),
            need("latitude", Template),
            need("longitude", Template),
            ROLE,
        ],
    ),
    (&["s3"], &[need("bucketName", Template), need("key", Template), may("cannedAcl", FixedWord(ACLS)), ROLE]),
    (&["salesforce"], &[need("token", Text), need("url", Url)]),
    (&["sns"], &[need("targetArn", Template), may("messageFormat", FixedWord(&["RAW", "JSON"])), ROLE]),
    (&["sqs"], &[need("queueUrl", Template), may("useBase64", Bool), ROLE]),
    (
        &["stepFunctions", "stepfunctions"],
        &[need("stateMachineName", Template), may("executionNamePrefix", Template), ROLE],
    ),
    (
        &["timestream"],
        &[
            need("databaseName", Template),
            need("tableName", Template),
            need("dimensions", Array(DIMENSION, 128)),
            may("timestamp", Object(TIMESTREAM_TIME)),
            ROLE,
        ],
    ),
];

/// The parameters of an action; `None` if there is no such action, or its reader checks all of it.
pub(super) fn of(action: &str) -> Option<&'static [Parameter]> {
    ACTIONS.iter().find(|(names, _)| names.contains(&action)).map(|(_, parameters)| *parameters)
}

/// The names of all these actions.
pub(super) fn all() -> impl Iterator<Item = &'static str> {
    ACTIONS.iter().flat_map(|(names, _)| names.iter().copied())
}

/// Spellings of parameters that documents have as well: action, what is written, what it stands for.
pub(super) const ALIASES: [(&str, &str, &str); 3] =
    [("s3", "bucket", "bucketName"), ("s3", "cannedacl", "cannedAcl"), ("kinesis", "stream", "streamName")];

/// What stands in for an action that is not available.
pub(super) fn instead(action: &str) -> &'static str {
    match action {
        "iotAnalytics" | "timestream" | "elasticsearch" | "openSearch" | "opensearch" => {
            "a `firehose` action keeps its rows in a lake, as Parquet on S3 or a folder, for SQL"
        }
        "kinesis" | "kafka" | "iotEvents" | "stepFunctions" | "stepfunctions" | "salesforce" => {
            "an `http` action sends its rows to a URL, a `republish` action to any MQTT client"
        }
        "cloudwatchMetric" | "cloudwatchLogs" | "cloudwatchAlarm" | "cloudwatchalarm" => {
            "a windowed rule in a .sql file counts and averages; system.rules and /metrics show what rules do"
        }
        _ => "a `dynamoDBv2` action keeps the newest row of each key in a table",
    }
}

impl Shape {
    /// The word for it in a sentence.
    pub(super) fn noun(self) -> &'static str {
        match self {
            Template | Text | Word(_) | FixedWord(_) => "a text",
            Url => "a URL",
            Bool => "true or false",
            Object(_) | Texts => "an object",
            Array(..) => "an array",
        }
    }

    /// How it may look.
    pub(super) fn example(self) -> String {
        match self {
            Template => "\"…\", which may hold ${…}".to_owned(),
            Text => "\"…\"".to_owned(),
            Word(words) | FixedWord(words) => words.first().map(|word| format!("\"{word}\"")).unwrap_or_default(),
            Url => "\"https://…\"".to_owned(),
            Bool => "true".to_owned(),
            Object(shapes) => format!("{{{}}}", names(shapes)),
            Array(shapes, _) => format!("[{{{}}}]", names(shapes)),
            Texts => "{\"…\": \"…\"}".to_owned(),
        }
    }
}

fn names(shapes: &[Parameter]) -> String {
    let required = shapes.iter().filter(|parameter| parameter.required);
    required.map(|parameter| format!("\"{}\": …", parameter.name)).collect::<Vec<_>>().join(", ")
}
