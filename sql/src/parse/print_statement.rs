//! CREATE and DROP statements as canonical text.

use std::fmt::Write;

use crate::ast::Dialect;
use crate::rule::{Action, ColumnDef, ColumnType, ObjectKind, OptionValue, Rule, SinkDef, Statement, TableDef, Target};

use super::literal::interval_text;
use super::print::{Printer, print_template};

/// A statement of a native file as text; of an AWS document, its canonical JSON.
pub fn print_statement(statement: &Statement) -> String {
    let mut printer = Printer { out: String::new(), dialect: Dialect::Native };
    match statement {
        Statement::Table(table) => printer.table(table),
        Statement::Sink(sink) => printer.sink(sink),
        Statement::Rule(rule) if rule.dialect == Dialect::Native => printer.rule(rule),
        Statement::Rule(rule) => printer.out.push_str(&rule.text),
        Statement::Drop { kind, name, if_exists } => {
            printer.out.push_str("DROP ");
            printer.out.push_str(match kind {
                ObjectKind::Table => "TABLE ",
                ObjectKind::Sink => "SINK ",
                ObjectKind::Rule => "RULE ",
            });
            if *if_exists {
                printer.out.push_str("IF EXISTS ");
            }
            printer.name(name);
        }
    }
    printer.out
}

impl Printer {
    fn columns(&mut self, columns: &[ColumnDef]) {
        for (index, column) in columns.iter().enumerate() {
            if index > 0 {
                self.push(", ");
            }
            self.name(&column.name);
            self.push(" ");
            let _ = match column.ty {
                ColumnType::Varchar => write!(self.out, "VARCHAR"),
                ColumnType::BigInt => write!(self.out, "BIGINT"),
                ColumnType::Double => write!(self.out, "DOUBLE"),
                ColumnType::Boolean => write!(self.out, "BOOLEAN"),
                ColumnType::Timestamp => write!(self.out, "TIMESTAMP"),
                ColumnType::Json => write!(self.out, "JSON"),
                ColumnType::Decimal { precision, scale } => write!(self.out, "DECIMAL({precision}, {scale})"),
            };
        }
    }

    fn table(&mut self, table: &TableDef) {
        self.push("CREATE TABLE ");
        self.name(&table.name);
        self.push(" (");
        self.columns(&table.columns);
        self.push(", PRIMARY KEY (");
        self.name(&table.hash);
        if let Some(range) = &table.range {
            self.push(", ");
            self.name(range);
        }
        self.push("))");
        if let Some(ttl_ms) = table.ttl_ms {
            let _ = write!(self.out, " WITH (ttl = INTERVAL '{}')", interval_text(ttl_ms.saturating_mul(1000)));
        }
    }

    fn sink(&mut self, sink: &SinkDef) {
        self.push("CREATE SINK ");
        self.name(&sink.name);
        if !sink.columns.is_empty() {
            self.push(" (");
            self.columns(&sink.columns);
            self.push(")");
        }
        self.push(" WITH (connector = ");
        self.text(&sink.connector);
        for (name, value) in &sink.options {
            self.push(", ");
            self.name(name);
            self.push(" = ");
            match value {
                OptionValue::String(text) => self.text(text),
                OptionValue::Number(number) => self.push(number),
                OptionValue::Bool(value) => self.push(if *value { "TRUE" } else { "FALSE" }),
                OptionValue::Interval(us) => {
                    let _ = write!(self.out, "INTERVAL '{}'", interval_text(*us));
                }
                OptionValue::Secret(name) => {
                    self.push("SECRET(");
                    self.text(name);
                    self.push(")");
                }
            }
        }
        self.push(")");
    }

    fn rule(&mut self, rule: &Rule) {
        self.push("CREATE RULE ");
        self.name(&rule.name);
        if !rule.enabled {
            self.push(" WITH (enabled = FALSE)");
        }
        self.push(" AS ");
        self.select(&rule.select);
        self.push(" INTO ");
        for (index, action) in rule.actions.iter().enumerate() {
            if index > 0 {
                self.push(", ");
            }
            self.target(action);
        }
        if let Some(action) = &rule.error_action {
            self.push(" ON ERROR INTO ");
            self.target(action);
        }
    }

    fn target(&mut self, action: &Action) {
        match &action.target {
            Target::Named(name) => self.name(name),
            Target::Topic { topic, qos, retain, .. } => {
                self.push("TOPIC ");
                let text = print_template(topic, self.dialect);
                self.text(&text);
                let _ = write!(self.out, " QOS {qos}");
                if *retain {
                    self.push(" RETAIN");
                }
            }
            // Native rules have no such actions; AWS rules are printed as JSON.
            Target::Item(item) => self.name(&item.table),
            Target::Outside(outside) => self.name(&outside.sink),
        }
    }
}
