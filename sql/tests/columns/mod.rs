//! Cases run on columns: rules compiled to programs, as live messages meet them.

use std::sync::Arc;

use hedgerow_sql::ast::Span;
use hedgerow_sql::parse::{parse_statement, parse_template};
use hedgerow_sql::program::Program;
use hedgerow_sql::rule::{Action, Rule, Target};
use hedgerow_sql::topic::TopicFilter;
use hedgerow_sql::vectors::{Case, Evaluate, Outcome};

/// Functions that call outside: a program has none.
const EXTERNAL: [&str; 7] = [
    "aws_lambda",
    "decode_proto",
    "get_dynamodb",
    "get_registry_data",
    "get_secret",
    "get_thing_shadow",
    "machinelearning_predict",
];

/// Evaluates by [`Program`]: the message so often that its shape is learned, and the last of its rows counts.
pub struct Columns {
    /// Rows go where columns are wanted.
    pub into_sink: bool,
}

impl Evaluate for Columns {
    fn evaluate(&self, case: &Case) -> Outcome {
        self.run(case).unwrap_or_else(|outcome| outcome)
    }
}

impl Columns {
    /// Whether a case calls nothing outside.
    pub fn can_run(case: &Case) -> bool {
        !EXTERNAL.iter().any(|external| case.sql.to_lowercase().contains(external))
    }

    fn run(&self, case: &Case) -> Result<Outcome, Outcome> {
        let refused = |mistakes: Vec<_>| Outcome::Refused(format!("{mistakes:?}"));
        let select = parse_statement(&case.sql, case.dialect).map_err(refused)?;
        let template = case.template.as_deref().map(|text| parse_template(text, case.dialect)).transpose();
        let action = |target| Action { kind: "into".into(), target, span: Span::default() };
        let mut actions = Vec::new();
        let has_template = case.template.is_some();
        if let Some(topic) = template.map_err(refused)? {
            actions.push(action(Target::Topic { topic, qos: 0, retain: false }));
        }
        if self.into_sink {
            actions.push(action(Target::Named("lake".into())));
        }
        let message = case.message();
        if !case.basic_ingest {
            let Some((from, _)) = &select.from else { return Ok(Outcome::NoMatch) };
            let filter = TopicFilter::new(from).map_err(|error| Outcome::Refused(error.to_string()))?;
            if !filter.matches(message.topic) {
                return Ok(Outcome::NoMatch);
            }
        }
        let rule = Rule {
            name: "vector".into(),
            dialect: case.dialect,
            text: case.sql.as_str().into(),
            enabled: true,
            select,
            filter: None,
            windowed: None,
            actions,
            error_action: None,
        };
        let mut out = Vec::new();
        Program::new(&[Arc::new(rule)]).evaluate(&[message; 5], &mut out);
        let failed = out.iter().flat_map(|rows| &rows.rejects).find(|r| !r.reason.starts_with("payload is not JSON"));
        if let Some(reject) = failed {
            return Ok(Outcome::Failed(reject.reason.clone()));
        }
        let rows = out.iter().filter(|rows| !rows.rows.is_empty()).map(|rows| &rows.rows).next_back();
        let Some(rows) = rows else { return Ok(Outcome::NoMatch) };
        let row = rows.len() - 1;
        // A topic's leading `$$` is the sink's business.
        let text = || rows.templates.first()?.get(row)?.as_deref().map(|text| text.replacen("$$", "$", 1));
        Ok(Outcome::Row { payload: rows.json(row), template: if has_template { text() } else { None } })
    }
}
