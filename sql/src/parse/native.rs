//! Native rule files: CREATE TABLE, SINK, RULE, and DROP.

use std::sync::Arc;

use crate::ast::{Dialect, Span};
use crate::diagnostic::Diagnostic;
use crate::rule::{Action, ColumnDef, ColumnType, ObjectKind, OptionValue, Rule, SinkDef, Statement, TableDef, Target};
use crate::suggest;

use super::lexer::{Kind, Token};
use super::literal;
use super::parser::{Failed, Parse, Parser};

/// An option of a WITH list.
struct Setting {
    name: Arc<str>,
    name_span: Span,
    value: OptionValue,
    value_span: Span,
}

/// Names that Hedgerow's own tables and streams have.
const BUILT_IN: [&str; 6] = ["dead_letters", "ingest_log", "presence", "shadows", "system", "information_schema"];

/// Words in an option's name that make its value a credential.
pub const CREDENTIAL_WORDS: [&str; 9] =
    ["password", "passphrase", "secret", "token", "credential", "credentials", "private_key", "api_key", "access_key"];

/// Must the option's value be `SECRET('name')`?
pub fn is_credential(option: &str) -> bool {
    let option = option.to_ascii_lowercase().replace(['-', '.'], "_");
    let points_elsewhere = ["_file", "_path", "_url"].iter().any(|end| option.ends_with(end));
    !points_elsewhere && CREDENTIAL_WORDS.iter().any(|word| option.contains(word)) || option == "authorization"
}

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
    fn object_name(&mut self) -> Parse<Arc<str>> {
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

    // --- tables

    fn table(&mut self) -> Parse<TableDef> {
        let name = self.object_name()?;
        let open = self.expect_sign("(")?;
        let mut columns: Vec<ColumnDef> = Vec::new();
        let mut key: Option<(Vec<(Arc<str>, Span)>, Span)> = None;
        loop {
            if self.at_words("PRIMARY", "KEY") {
                let found = self.primary_key()?;
                if key.is_some() && !self.diagnostics.iter().any(|earlier| earlier.span.start == found.1.start) {
                    self.report(Diagnostic::error("key", found.1, "PRIMARY KEY stands twice"));
                }
                key = Some(found);
            } else if self.at_word("INDEX") && matches!(self.peek_second().kind, Kind::Sign("(")) {
                let start = self.advance().span.start;
                self.name_list()?;
                let span = Span { start, end: self.last_end };
                self.not_available(span, "INDEX is", "put what you look up by into the PRIMARY KEY");
            } else {
                let column = self.column(&columns)?;
                if self.at_words("PRIMARY", "KEY") {
                    key = key.or(Some(self.key_of_column(&column)));
                    columns.push(column);
                    if self.at_words("PRIMARY", "KEY") {
                        continue;
                    }
                } else {
                    columns.push(column);
                }
            }
            if !self.eat_sign(",") {
                break;
            }
        }
        self.expect_sign(")")?;
        let (hash, range) = self.checked_key(&columns, key, open)?;
        let mut table = TableDef { name, columns, hash, range, ttl_ms: None, text: Arc::from("") };
        for setting in self.with()? {
            match (&*setting.name, &setting.value) {
                ("ttl", OptionValue::Interval(us)) if *us >= 1000 => table.ttl_ms = Some(us / 1000),
                ("ttl", _) => {
                    let message = "ttl, how long a row is kept after it was written, is an interval";
                    let help = "write ttl = INTERVAL '30 days'";
                    self.report(Diagnostic::error("option", setting.value_span, message).help(help));
                }
                (other, _) => self.unknown_option(other, setting.name_span, "a table", &["ttl"]),
            }
        }
        table.text = Arc::from(super::print_statement(&Statement::Table(table.clone())));
        Ok(table)
    }

    /// `id VARCHAR PRIMARY KEY`, as other SQLs have it: reported, and taken for what it means.
    fn key_of_column(&mut self, column: &ColumnDef) -> (Vec<(Arc<str>, Span)>, Span) {
        let start = self.peek().span.start;
        let lists = {
            let third = self.peek_third();
            third.kind == Kind::Sign("(")
        };
        if !lists {
            self.advance();
            self.advance();
        }
        let span = Span { start, end: self.last_end.max(start) };
        let message = "PRIMARY KEY stands apart from the columns, after a comma";
        let help = format!("write {} …, PRIMARY KEY ({})", column.name, column.name);
        self.report(Diagnostic::error("key", span, message).help(help));
        (vec![(column.name.clone(), span)], span)
    }

    fn primary_key(&mut self) -> Parse<(Vec<(Arc<str>, Span)>, Span)> {
        let start = self.advance().span.start;
        self.advance();
        let names = self.name_list()?;
        Ok((names, Span { start, end: self.last_end }))
    }

    fn name_list(&mut self) -> Parse<Vec<(Arc<str>, Span)>> {
        self.expect_sign("(")?;
        let mut names = vec![self.name("a column")?];
        while self.eat_sign(",") {
            names.push(self.name("a column")?);
        }
        self.expect_sign(")")?;
        Ok(names)
    }

    fn checked_key(
        &mut self,
        columns: &[ColumnDef],
        key: Option<(Vec<(Arc<str>, Span)>, Span)>,
        open: Span,
    ) -> Parse<(Arc<str>, Option<Arc<str>>)> {
        let Some((names, span)) = key else {
            let message = "the table has no PRIMARY KEY";
            let help = "name the hash key, and if there is one the range key: PRIMARY KEY (sensor_id, ts)";
            self.report(Diagnostic::error("key", Span { start: open.start, end: self.last_end }, message).help(help));
            return Err(Failed);
        };
        if names.len() > 2 {
            let message = "a key has a hash column and at most one range column";
            self.report(Diagnostic::error("key", span, message).help("join several columns into one text"));
        }
        for (index, (name, name_span)) in names.iter().enumerate() {
            match columns.iter().find(|column| column.name == *name) {
                None => {
                    let help = suggest::did_you_mean(name, columns.iter().map(|column| &*column.name))
                        .unwrap_or_else(|| format!("declare it: {name} VARCHAR"));
                    let message = format!("the table has no column {name}");
                    self.report(Diagnostic::error("key", *name_span, message).help(help));
                }
                Some(column) if column.ty == ColumnType::Json => {
                    let message = format!("{name} is JSON and cannot be a key");
                    self.report(
                        Diagnostic::error("key", *name_span, message).help("keys are texts, numbers, booleans"),
                    );
                }
                Some(_) if names.iter().take(index).any(|(earlier, _)| earlier == name) => {
                    self.report(Diagnostic::error("key", *name_span, format!("{name} stands twice in the key")));
                }
                Some(_) => {}
            }
        }
        let mut names = names.into_iter().map(|(name, _)| name);
        Ok((names.next().ok_or(Failed)?, names.next()))
    }

    fn column(&mut self, earlier: &[ColumnDef]) -> Parse<ColumnDef> {
        let (name, span) = self.name("a column, or PRIMARY KEY")?;
        if earlier.iter().any(|column| column.name == name) {
            self.report(Diagnostic::error("column", span, format!("the column {name} is declared twice")));
        }
        if name.starts_with('_') {
            let message = format!("{name}: names that begin with `_` are Hedgerow's own columns");
            self.report(Diagnostic::error("column", span, message));
        }
        Ok(ColumnDef { name, ty: self.column_type()? })
    }

    fn column_type(&mut self) -> Parse<ColumnType> {
        const TYPES: [&str; 7] = ["VARCHAR", "BIGINT", "DOUBLE", "BOOLEAN", "TIMESTAMP", "JSON", "DECIMAL"];
        let token = self.peek();
        if token.kind != Kind::Word {
            self.unexpected("a type: VARCHAR, BIGINT, DOUBLE, BOOLEAN, TIMESTAMP, JSON or DECIMAL(p, s)");
            return Err(Failed);
        }
        self.advance();
        let source = self.source(token);
        let ty = match source.to_ascii_uppercase().as_str() {
            "VARCHAR" => ColumnType::Varchar,
            "BIGINT" => ColumnType::BigInt,
            "DOUBLE" => ColumnType::Double,
            "BOOLEAN" => ColumnType::Boolean,
            "TIMESTAMP" => ColumnType::Timestamp,
            "JSON" => ColumnType::Json,
            "DECIMAL" => self.decimal_type(token)?,
            other => {
                let meant = match other {
                    "TEXT" | "STRING" | "CHAR" | "UUID" => Some("VARCHAR"),
                    "INT" | "INTEGER" | "SMALLINT" | "LONG" | "INT64" => Some("BIGINT"),
                    "FLOAT" | "REAL" | "FLOAT64" => Some("DOUBLE"),
                    "BOOL" => Some("BOOLEAN"),
                    "NUMERIC" | "NUMBER" => Some("DECIMAL(p, s), or DOUBLE"),
                    "STRUCT" | "ARRAY" | "MAP" | "JSONB" => Some("JSON"),
                    _ => suggest::nearest(other, TYPES.iter().copied()),
                };
                let help = match meant {
                    Some(meant) => format!("use {meant}"),
                    None => format!("types are {} and DECIMAL(p, s)", TYPES.get(..6).unwrap_or_default().join(", ")),
                };
                self.report(
                    Diagnostic::error("unknown-type", token.span, format!("there is no type {source}")).help(help),
                );
                if self.at_sign("(") {
                    self.advance();
                    self.skip_until(|_, token| token.kind == Kind::Sign(")"));
                    self.eat_sign(")");
                }
                ColumnType::Varchar
            }
        };
        // A length is customary and means nothing here.
        if ty == ColumnType::Varchar && self.at_sign("(") {
            let start = self.advance().span.start;
            self.skip_until(|_, token| token.kind == Kind::Sign(")"));
            self.expect_sign(")")?;
            let span = Span { start, end: self.last_end };
            self.report(Diagnostic::error("column", span, "VARCHAR has no length here").help("write VARCHAR"));
        }
        Ok(ty)
    }

    fn decimal_type(&mut self, token: Token) -> Parse<ColumnType> {
        if !self.at_sign("(") {
            let message = "DECIMAL needs its digits";
            let help = "write DECIMAL(18, 4): 18 digits, 4 of them after the point";
            self.report(Diagnostic::error("column", token.span, message).help(help));
            return Ok(ColumnType::Decimal { precision: 34, scale: 0 });
        }
        self.advance();
        let precision = self.small_number("how many digits: a number from 1 to 38")?;
        self.expect_sign(",")?;
        let scale = self.small_number("how many digits after the point")?;
        self.expect_sign(")")?;
        if !(1..=38).contains(&precision) || scale > precision {
            let span = Span { start: token.span.start, end: self.last_end };
            let message = "a DECIMAL has 1 to 38 digits, and no more after the point than in all";
            self.report(Diagnostic::error("column", span, message));
            return Ok(ColumnType::Decimal { precision: 38, scale: 0 });
        }
        Ok(ColumnType::Decimal { precision, scale: i8::try_from(scale).unwrap_or(0) })
    }

    fn small_number(&mut self, what: &str) -> Parse<u8> {
        let token = self.peek();
        if token.kind == Kind::Number
            && let Ok(number) = self.source(token).parse::<u8>()
        {
            self.advance();
            return Ok(number);
        }
        self.unexpected(what);
        Err(Failed)
    }

    // --- sinks

    fn sink(&mut self) -> Parse<SinkDef> {
        let name = self.object_name()?;
        let start = self.peek().span.start;
        let mut columns = Vec::new();
        if self.eat_sign("(") {
            loop {
                if self.at_words("PRIMARY", "KEY") {
                    let span = self.peek().span;
                    let message = "a sink has no key";
                    self.report(
                        Diagnostic::error("key", span, message).help("rows by key are kept in a table: CREATE TABLE"),
                    );
                    return Err(Failed);
                }
                let column = self.column(&columns)?;
                columns.push(column);
                if !self.eat_sign(",") {
                    break;
                }
            }
            self.expect_sign(")")?;
        }
        let mut connector = None;
        let mut options = Vec::new();
        for setting in self.with()? {
            if &*setting.name == "connector" {
                match setting.value {
                    OptionValue::String(text) => connector = Some(text),
                    _ => self.report(
                        Diagnostic::error("option", setting.value_span, "the connector is a text")
                            .help("write connector = 'lake'"),
                    ),
                }
            } else {
                self.check_credentials(&setting);
                options.push((setting.name, setting.value));
            }
        }
        let Some(connector) = connector else {
            let span = Span { start, end: self.last_end };
            let help = "say what kind of sink it is: WITH (connector = 'lake', path = '…')";
            self.report(Diagnostic::error("option", span, "the sink has no connector").help(help));
            return Err(Failed);
        };
        let mut sink = SinkDef { name, columns, connector, options, text: Arc::from("") };
        sink.text = Arc::from(super::print_statement(&Statement::Sink(sink.clone())));
        Ok(sink)
    }

    /// Credentials never stand in a rule file: it is copied, versioned and logged.
    fn check_credentials(&mut self, setting: &Setting) {
        let name = &setting.name;
        if is_credential(name) {
            if !matches!(setting.value, OptionValue::Secret(_)) {
                let message = format!("{name} is a credential and must not stand in a rule file");
                let help = format!("write {name} = SECRET('name') and give the value in the configuration");
                self.report(Diagnostic::error("secret", setting.value_span, message).help(help));
            }
        } else if let OptionValue::String(text) = &setting.value
            && let Some((_, rest)) = text.split_once("://")
            && let Some((user, _)) = rest.split('/').next().unwrap_or_default().split_once('@')
            && user.contains(':')
        {
            let message = format!("the address in {name} holds a password");
            let help = "leave it out of the address and give it by SECRET('name') in an option of its own";
            self.report(Diagnostic::error("secret", setting.value_span, message).help(help));
        }
    }

    // --- options

    /// `[WITH (name = value, …)]`.
    fn with(&mut self) -> Parse<Vec<Setting>> {
        let mut settings: Vec<Setting> = Vec::new();
        if !self.eat_word("WITH") {
            return Ok(settings);
        }
        self.expect_sign("(")?;
        loop {
            let (name, name_span) = self.name("an option")?;
            self.expect_sign("=")?;
            let start = self.peek().span.start;
            let value = self.option_value()?;
            let value_span = Span { start, end: self.last_end };
            if settings.iter().any(|setting| setting.name == name) {
                self.report(Diagnostic::error("option", name_span, format!("the option {name} is given twice")));
            }
            settings.push(Setting { name, name_span, value, value_span });
            if !self.eat_sign(",") {
                break;
            }
        }
        self.expect_sign(")")?;
        Ok(settings)
    }

    fn option_value(&mut self) -> Parse<OptionValue> {
        let token = self.peek();
        let minus = self.eat_sign("-");
        let token = if minus { self.peek() } else { token };
        if token.kind == Kind::Number {
            self.advance();
            let sign = if minus { "-" } else { "" };
            return Ok(OptionValue::Number(Arc::from(format!("{sign}{}", self.source(token)))));
        }
        if minus {
            self.unexpected("a number after `-`");
            return Err(Failed);
        }
        if token.kind == Kind::String {
            self.advance();
            return Ok(OptionValue::String(self.text_of(token)));
        }
        if self.eat_word("TRUE") {
            return Ok(OptionValue::Bool(true));
        }
        if self.eat_word("FALSE") {
            return Ok(OptionValue::Bool(false));
        }
        if self.at_word("INTERVAL") {
            return Ok(OptionValue::Interval(self.interval("an interval")?.0));
        }
        if self.at_word("SECRET") {
            self.advance();
            self.expect_sign("(")?;
            let name = self.peek();
            if name.kind != Kind::String {
                self.unexpected("the name of a secret in quotes");
                return Err(Failed);
            }
            self.advance();
            self.expect_sign(")")?;
            return Ok(OptionValue::Secret(self.text_of(name)));
        }
        self.unexpected("a text in quotes, a number, TRUE, FALSE, INTERVAL '…' or SECRET('…')");
        Err(Failed)
    }

    fn text_of(&self, token: Token) -> Arc<str> {
        Arc::from(literal::unquote(self.source(token), token.span.start, self.dialect).text)
    }

    fn unknown_option(&mut self, name: &str, span: Span, of: &str, known: &[&str]) {
        let help = suggest::did_you_mean(name, known.iter().copied())
            .unwrap_or_else(|| format!("its options: {}", known.join(", ")));
        self.report(Diagnostic::error("option", span, format!("{of} has no option {name}")).help(help));
    }

    // --- rules

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
            Target::Topic { topic, qos, retain }
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
