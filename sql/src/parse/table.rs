//! CREATE TABLE: columns, types, keys.

use std::sync::Arc;

use crate::ast::Span;
use crate::diagnostic::Diagnostic;
use crate::rule::{ColumnDef, ColumnType, OptionValue, Statement, TableDef};
use crate::suggest;

use super::lexer::{Kind, Token};
use super::parser::{Failed, Parse, Parser};

/// The most columns that a table or sink declares.
const MAX_COLUMNS: usize = 1000;

/// The columns of a PRIMARY KEY with their places, and the place of it all.
type Key = (Vec<(Arc<str>, Span)>, Span);

impl Parser<'_> {
    pub(super) fn table(&mut self) -> Parse<TableDef> {
        let name = self.object_name()?;
        let open = self.expect_sign("(")?;
        let mut columns: Vec<ColumnDef> = Vec::new();
        let mut key: Option<Key> = None;
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
    fn key_of_column(&mut self, column: &ColumnDef) -> Key {
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

    fn primary_key(&mut self) -> Parse<Key> {
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
        key: Option<Key>,
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

    pub(super) fn column(&mut self, earlier: &[ColumnDef]) -> Parse<ColumnDef> {
        let (name, span) = self.name("a column, or PRIMARY KEY")?;
        if earlier.len() == MAX_COLUMNS {
            let message = format!("more than {MAX_COLUMNS} columns");
            let help = "leave out what is seldom asked for: members without a column are kept all the same";
            self.report(Diagnostic::error("column", span, message).help(help));
            return Err(Failed);
        }
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
}
