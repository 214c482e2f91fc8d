//! `hedgerow rule explain`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::bail;
use clap::Args;
use hedgerow_sql::analyze::{self, reads};
use hedgerow_sql::ast::{Dialect, Expr, ExprKind};
use hedgerow_sql::diagnostic::{Diagnostic, Style, render};
use hedgerow_sql::functions::{self, Purity};
use hedgerow_sql::parse::print_template;
use hedgerow_sql::program::{Explanation, explain};
use hedgerow_sql::rule::{Rule, Statement, Target};
use hedgerow_sql::suggest;
use hedgerow_sql::vectors::{Evaluate, Given, Live, reaches};
use serde::Serialize;

use super::{Common, deployed, files, say};
use crate::cli::table::printable;

/// Arguments of `explain`.
#[derive(Args)]
#[command(after_help = EXAMPLES)]
pub struct Explain {
    /// Rule files (.sql, .json), or folders of them
    #[arg(value_name = "FILE", required_unless_present = "deployed", conflicts_with = "deployed")]
    paths: Vec<PathBuf>,
    /// Only this rule
    #[arg(long, value_name = "NAME")]
    rule: Option<String>,
    /// Rules of the running server, or of the data folder
    #[arg(long)]
    deployed: bool,
    /// A sample: how the rule runs for messages like this payload, and what comes out
    #[arg(long, value_name = "JSON")]
    payload: Option<String>,
    /// The sample's topic [default: one that the rule's filter matches]
    #[arg(long, value_name = "TOPIC", requires = "payload")]
    topic: Option<String>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  hedgerow rule explain rules/farm.sql
  hedgerow rule explain rules/farm.sql --rule too_hot --payload '{\"temperature\": 51.2}'
  hedgerow rule explain --deployed --rule too_hot";

/// What is said of a rule.
#[derive(Serialize)]
struct Said {
    rule: String,
    /// `native` or `aws`, with its version.
    language: &'static str,
    /// The rule as it was understood.
    statement: String,
    topics: Option<String>,
    /// Members of the payload it reads.
    reads: Vec<String>,
    /// It reads the payload as a whole, too.
    reads_payload: bool,
    writes: Vec<String>,
    /// The same log gives the same rows, whatever other systems say.
    pure: bool,
    /// Functions that ask other systems.
    asks: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sample: Option<Sample>,
}

/// How it runs for a message.
#[derive(Serialize)]
struct Sample {
    topic: String,
    payload: String,
    /// FROM lets the message in.
    reaches: bool,
    /// Why the whole rule runs message by message.
    #[serde(skip_serializing_if = "Option::is_none")]
    by_message: Option<String>,
    signature: Vec<Member>,
    parts: Vec<Part>,
    /// What comes out.
    #[serde(skip_serializing_if = "Option::is_none")]
    gives: Option<String>,
}

#[derive(Serialize)]
struct Member {
    path: String,
    kind: &'static str,
}

/// An expression, and how it is computed.
#[derive(Serialize)]
struct Part {
    place: String,
    expression: String,
    /// The plan over columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<String>,
    /// Why it is computed row by row.
    #[serde(skip_serializing_if = "Option::is_none")]
    row_by_row: Option<String>,
}

impl Explain {
    /// Explains and prints.
    pub fn run(&self, common: &Common) -> anyhow::Result<ExitCode> {
        let rules = self.rules(common)?;
        let chosen: Vec<&Arc<Rule>> = match &self.rule {
            None => rules.iter().collect(),
            Some(name) => match rules.iter().find(|rule| *rule.name == **name) {
                Some(rule) => vec![rule],
                None => {
                    let near = suggest::did_you_mean(name, rules.iter().map(|rule| &*rule.name));
                    let names: Vec<&str> = rules.iter().map(|rule| &*rule.name).collect();
                    bail!("no rule {name} ({})", near.unwrap_or_else(|| format!("there are {}", names.join(", "))));
                }
            },
        };
        if chosen.is_empty() {
            bail!("there are no rules");
        }
        let said: Vec<Said> = chosen.into_iter().map(|rule| self.say(rule)).collect();
        let text = if self.json {
            serde_json::to_string_pretty(&said)? + "\n"
        } else {
            said.iter().map(text).collect::<Vec<_>>().join("\n")
        };
        say(&text)?;
        Ok(ExitCode::SUCCESS)
    }

    fn rules(&self, common: &Common) -> anyhow::Result<Vec<Arc<Rule>>> {
        let files = if self.deployed {
            let named = deployed(common)?.into_iter().map(|(name, is_document, text)| {
                (format!("{name}.{}", if is_document { "json" } else { "sql" }), text)
            });
            named.collect()
        } else {
            files(&self.paths)?
        };
        let mut rules = Vec::new();
        for (name, text) in files {
            let reading = analyze::read(&name, &text);
            if !reading.is_sound() {
                let mistakes: Vec<Diagnostic> = reading.diagnostics.into_iter().filter(Diagnostic::is_error).collect();
                eprint!("{}", render(&mistakes, &name, &text, Style::Plain));
                bail!("{name} cannot be explained before it is right");
            }
            rules.extend(reading.statements.into_iter().filter_map(|(statement, _)| match statement {
                Statement::Rule(rule) => Some(Arc::new(rule)),
                _ => None,
            }));
        }
        Ok(rules)
    }

    fn say(&self, rule: &Arc<Rule>) -> Said {
        let reads = reads(rule);
        let asks = asks(rule);
        Said {
            rule: rule.name.to_string(),
            language: match rule.dialect {
                Dialect::Native => "native",
                Dialect::Aws2016 => "aws 2016-03-23",
                Dialect::Aws2015 => "aws 2015-10-08",
            },
            statement: rule.text.to_string(),
            topics: rule.filter.as_ref().map(ToString::to_string),
            reads: reads.paths.iter().map(|path| path.join(".")).collect(),
            reads_payload: reads.whole,
            writes: writes(rule),
            pure: asks.is_empty(),
            asks,
            sample: self.payload.as_ref().map(|payload| self.sample(rule, payload)),
        }
    }

    fn sample(&self, rule: &Arc<Rule>, payload: &str) -> Sample {
        let topic = self.topic.clone().unwrap_or_else(|| match &rule.filter {
            Some(filter) => filter.as_str().replace(['+', '#'], "x"),
            None => format!("$aws/rules/{}/x", rule.name),
        });
        let given = Given {
            topic: topic.clone(),
            payload: payload.as_bytes().to_vec(),
            client_id: Some("client".to_owned()),
            time_ms: 1_600_000_000_000,
            ..Given::default()
        };
        let Explanation { by_message, signature, parts } = explain(rule, &given.message());
        let reaches = reaches(rule, &given);
        let later = rule.windowed.is_some() || rule.select.absence.is_some();
        let gives = match (reaches, later || !asks(rule).is_empty()) {
            (false, _) => Some("nothing: FROM does not match this topic".to_owned()),
            (true, true) => None,
            (true, false) => Some(Live.evaluate(rule, &given, &[]).to_string()),
        };
        let part = |part: hedgerow_sql::program::Explained| {
            let (plan, row_by_row) = match part.plan {
                Ok(plan) => (Some(plan), None),
                Err(why) => (None, Some(why)),
            };
            Part { place: part.place, expression: part.expression, plan, row_by_row }
        };
        Sample {
            topic,
            payload: payload.to_owned(),
            reaches,
            by_message,
            signature: signature.into_iter().map(|(path, kind)| Member { path, kind }).collect(),
            parts: parts.into_iter().map(part).collect(),
            gives,
        }
    }
}

/// Where its rows go.
fn writes(rule: &Rule) -> Vec<String> {
    let of_action = |action: &hedgerow_sql::rule::Action| match &action.target {
        Target::Topic { topic, qos, retain, headers } => {
            let retain = if *retain { ", retained" } else { "" };
            let headers = if headers.is_empty() { "" } else { ", with MQTT 5 properties" };
            format!("topic {} with QoS {qos}{retain}{headers}", print_template(topic, rule.dialect))
        }
        _ => action.destination().map(ToString::to_string).unwrap_or_default(),
    };
    rule.actions.iter().map(of_action).collect()
}

/// Functions of the rule that ask other systems.
fn asks(rule: &Rule) -> Vec<String> {
    fn find(expr: &Expr, found: &mut BTreeSet<String>) {
        if let ExprKind::Call { function, .. } = &expr.kind
            && functions::lookup(function).is_some_and(|function| function.purity == Purity::External)
        {
            found.insert(function.to_string());
        }
        expr.for_each_child(|child| find(child, found));
    }
    let mut found = BTreeSet::new();
    rule.select.exprs().for_each(|expr| find(expr, &mut found));
    rule.templates().into_iter().flat_map(|template| template.exprs()).for_each(|expr| find(expr, &mut found));
    found.into_iter().collect()
}

fn text(said: &Said) -> String {
    let list = |items: &[String], none: &str| if items.is_empty() { none.to_owned() } else { items.join(", ") };
    let mut reads = said.reads.clone();
    reads.extend(said.reads_payload.then(|| "the whole payload".to_owned()));
    let pure = match said.asks.as_slice() {
        [] => "yes: the same log gives the same rows".to_owned(),
        asks => format!("no: it asks other systems ({})", asks.join(", ")),
    };
    let mut out = format!(
        "rule {} ({})\n  {}\n  topics  {}\n  reads   {}\n  writes  {}\n  pure    {pure}\n",
        said.rule,
        said.language,
        printable(&said.statement),
        said.topics.as_deref().unwrap_or("none: it is reached by basic ingest"),
        list(&reads, "nothing of the payload"),
        list(&said.writes, "nothing"),
    );
    let Some(sample) = &said.sample else { return out };
    out += &format!("\n  for {} {}\n", sample.topic, printable(&sample.payload));
    if let Some(why) = &sample.by_message {
        out += &format!("    runs message by message: {why}\n");
    }
    let parts = if sample.by_message.is_some() { &[][..] } else { &sample.parts };
    let signature: Vec<String> =
        sample.signature.iter().map(|member| format!("{} {}", member.path, member.kind)).collect();
    out += &format!("    kinds   {}\n", list(&signature, "it reads no members"));
    for part in parts {
        out += &format!("    {}: {}\n", part.place, part.expression);
        out += &match (&part.plan, &part.row_by_row) {
            (Some(plan), _) => format!("      on columns: {plan}\n"),
            (None, why) => format!("      row by row, because of {}\n", why.as_deref().unwrap_or_default()),
        };
    }
    if let Some(gives) = &sample.gives {
        out += &format!("    gives   {gives}\n");
    }
    out
}
