//! Native rule files: CREATE TABLE, SINK, RULE, and DROP.

use std::sync::Arc;

use crate::ast::{Dialect, Span};
use crate::diagnostic::Diagnostic;
use crate::rule::{Action, ObjectKind, OptionValue, Rule, Statement, Target};

use super::lexer::Kind;
use super::literal;
use super::parser::{Failed, Parse, Parser};

/// Names that Hedgerow's own tables, streams and sinks have.
const BUILT_IN: [&str; 8] =
    ["dead_letters", "ingest_log", "presence", "shadows", "system", "information_schema", "tables", "republish"];

/// The statements of a file with their places, and everything that is wrong with it. Windowed rules are not taken
/// apart and no name is looked up yet.
pub(crate) fn statements(text: &str) -> (Vec<(Statement, Span)>, Vec<Diagnostic>) {
    let mut parser = Parser::new(text, Dialect::Native);
    let mut statements: Vec<(Statement, Span)> = Vec::new();
    loop {
        while parser.eat_sign(";") {}
        let start = parser.peek().span.start;
        if parser.peek().kind == Kind::End {
            break;
        }
        parser.variables = Some(Vec::new());
        let statement = parser.file_statement();
        let span = Span { start, end: parser.last_end };
        match statement {
            Ok(Some(statement)) => statements.push((statement, span)),
            Ok(None) => {}
            Err(Failed) => parser.skip_to_statement(),
        }
        if !matches!(parser.peek().kind, Kind::End | Kind::Sign(";")) {
            if parser.begins_statement() {
                let at = Span { start: parser.last_end, end: parser.last_end };
                parser.report(Diagnostic::error("syntax", at, "a `;` is missing between two statements"));
            } else {
                parser.unexpected("`;`");
                parser.skip_to_statement();
            }
        }
    }
    (statements, parser.diagnostics)
}

impl Parser<'_> {
    fn begins_statement(&mut self) -> bool {
        let kinds = ["OR", "TABLE", "SINK", "RULE", "SOURCE", "VIEW"];
        (self.at_word("CREATE") || self.at_word("DROP")) && {
            let next = self.peek_second();
            kinds.iter().any(|kind| self.is_word(next, kind))
        }
    }

    fn skip_to_statement(&mut self) {
        while !matches!(self.peek().kind, Kind::End | Kind::Sign(";")) && !self.begins_statement() {
            self.advance();
        }
    }

    fn file_statement(&mut self) -> Parse<Option<Statement>> {
        if self.at_word("DROP") {
            return self.drop_statement();
        }
        if self.at_word("SELECT") || self.at_word("SET") {
            let span = self.peek().span;
            let help = "give it a name and a destination: CREATE RULE name AS SELECT … FROM '…' INTO …";
            self.report(Diagnostic::error("syntax", span, "a rule file holds CREATE and DROP statements").help(help));
            return Err(Failed);
        }
        if !self.at_word("CREATE") {
            self.unexpected("CREATE or DROP");
            return Err(Failed);
        }
        self.advance();
        if self.eat_word("OR") {
            self.expect_word("REPLACE")?;
        }
        let token = self.peek();
        if self.eat_word("TABLE") {
            self.table().map(|table| Some(Statement::Table(table)))
        } else if self.eat_word("SINK") {
            self.sink().map(|sink| Some(Statement::Sink(sink)))
        } else if self.eat_word("RULE") {
            self.rule().map(|rule| Some(Statement::Rule(rule)))
        } else if self.eat_word("SOURCE") || self.eat_word("VIEW") {
            self.name("a name")?;
            let word = self.source(token).to_ascii_uppercase();
            let span = Span { start: token.span.start, end: self.last_end };
            let help = if word == "VIEW" { "write the rows into a table, and query that" } else { "" };
            self.not_available(span, &format!("CREATE {word} is"), help);
            self.skip_to_statement();
            Ok(None)
        } else {
            self.unexpected("TABLE, SINK or RULE after CREATE");
            Err(Failed)
        }
    }

    fn drop_statement(&mut self) -> Parse<Option<Statement>> {
        self.advance();
        let token = self.peek();
        let kind = if self.eat_word("TABLE") {
            Some(ObjectKind::Table)
        } else if self.eat_word("SINK") {
            Some(ObjectKind::Sink)
        } else if self.eat_word("RULE") {
            Some(ObjectKind::Rule)
        } else if self.eat_word("SOURCE") || self.eat_word("VIEW") {
            let word = self.source(token).to_ascii_uppercase();
            self.not_available(token.span, &format!("DROP {word} is"), "");
            None
        } else {
            self.unexpected("TABLE, SINK or RULE after DROP");
            return Err(Failed);
        };
        let if_exists = self.at_words("IF", "EXISTS");
        if if_exists {
            self.advance();
            self.advance();
        }
        let (name, _) = self.name("a name")?;
        Ok(kind.map(|kind| Statement::Drop { kind, name, if_exists }))
    }

    /// The name of something that is created.
    pub(super) fn object_name(&mut self) -> Parse<Arc<str>> {
        let (name, span) = self.name("a name")?;
        let fits = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        if !name.chars().all(fits) || name.starts_with('.') || name.len() > 128 {
            let message =
                "a name has letters, digits, `_`, `-` and `.`, at most 128 bytes, and does not begin with `.`";
            self.report(Diagnostic::error("name", span, message));
        } else if BUILT_IN.iter().any(|built_in| built_in.eq_ignore_ascii_case(&name)) {
            let message = format!("{name} is Hedgerow's own: choose another name");
            self.report(Diagnostic::error("name", span, message));
        }
        Ok(name)
    }

    fn rule(&mut self) -> Parse<Rule> {
        let name = self.object_name()?;
        let mut enabled = true;
        for setting in self.with()? {
            match (&*setting.name, &setting.value) {
                ("enabled", OptionValue::Bool(value)) => enabled = *value,
                ("enabled", _) => {
                    self.report(Diagnostic::error("option", setting.value_span, "enabled is TRUE or FALSE"));
                }
                (other, _) => self.unknown_option(other, setting.name_span, "a rule", &["enabled"]),
            }
        }
        self.expect_word("AS")?;
        let select = self.select_statement()?;
        let mut actions = Vec::new();
        let mut error_action = None;
        if !self.at_word("INTO") {
            let at = Span { start: self.last_end, end: self.last_end };
            let help = "say where its rows go: INTO table_or_sink, or INTO TOPIC 'alerts/${topic(2)}'";
            self.report(Diagnostic::error("into", at, "the rule has no INTO").help(help));
        }
        if self.eat_word("INTO") {
            loop {
                actions.push(self.target()?);
                if !self.eat_sign(",") {
                    break;
                }
            }
        }
        if self.at_word("LATE") {
            let start = self.advance().span.start;
            self.expect_word("INTO")?;
            self.target()?;
            let span = Span { start, end: self.last_end };
            self.not_available(span, "LATE INTO is", "windows are cut by the time of receipt: nothing is late");
        }
        if self.at_words("ON", "ERROR") {
            self.advance();
            self.advance();
            self.expect_word("INTO")?;
            error_action = Some(self.target()?);
        }
        let filter = select.from.as_ref().and_then(|(text, _)| crate::topic::TopicFilter::new(text).ok());
        let mut rule = Rule {
            name,
            dialect: Dialect::Native,
            text: Arc::from(""),
            enabled,
            select,
            filter,
            windowed: None,
            actions,
            error_action,
        };
        rule.text = Arc::from(super::print_statement(&Statement::Rule(rule.clone())));
        Ok(rule)
    }

    /// A table or sink by name, or `TOPIC 'template' [QOS n] [RETAIN]`.
    fn target(&mut self) -> Parse<Action> {
        let token = self.peek();
        let start = token.span.start;
        let next = self.peek_second();
        let target = if self.is_word(token, "TOPIC") && next.kind == Kind::String {
            self.advance();
            let text = self.advance();
            let extract = literal::unquote(self.source(text), text.span.start, self.dialect);
            let mut found = Vec::new();
            let mut topic = super::template_parts(&extract.text, self.dialect, self.variables.as_deref(), &mut found);
            for diagnostic in found {
                self.report(diagnostic.mapped(|span| extract.span(span)));
            }
            topic.map_spans(&|span| extract.span(span));
            let mut qos = 0;
            if self.eat_word("QOS") {
                let token = self.peek();
                qos = match self.source(token) {
                    "0" => 0,
                    "1" => 1,
                    _ => {
                        self.unexpected("0 or 1 after QOS");
                        return Err(Failed);
                    }
                };
                self.advance();
            }
            let retain = self.eat_word("RETAIN");
            Target::Topic { topic, qos, retain, headers: Box::default() }
        } else {
            if token.kind == Kind::String {
                let topic = self.source(token).to_owned();
                let message = "a text in quotes is no table or sink";
                let help = format!("for a topic write INTO TOPIC {topic}");
                self.report(Diagnostic::error("into", token.span, message).help(help));
                self.advance();
                return Err(Failed);
            }
            Target::Named(self.name("a table, a sink or TOPIC '…'")?.0)
        };
        Ok(Action { kind: Arc::from("into"), target, span: Span { start, end: self.last_end } })
    }
}
