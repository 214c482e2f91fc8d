//! What is said about rule files: the cases of `tests/cases/*.txt`.
//!
//! A case is a title (`# …`), a kind (`>>> sql`, `json`, `aws2016`, `aws2015` or `catalog`: a native file whose rules
//! are also checked against its own tables and sinks; after a line `---`, an AWS document that is checked against
//! them), the text up to `<<<`, and what is expected up to the next title:
//! one line for each diagnostic, and for a sound text its canonical form (`=`), what its rules read (`reads`) and how a
//! windowed rule was taken apart (`window`). `HEDGEROW_UPDATE_CASES=1 cargo test` writes what it found instead; read
//! the difference before committing it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test may panic")]

use std::fmt::Write as _;
use std::path::Path;

use hedgerow_sql::analyze::{Objects, check, check_select, parse_document, read, reads};
use hedgerow_sql::ast::Dialect;
use hedgerow_sql::diagnostic::{Diagnostic, Severity, Style, position, render};
use hedgerow_sql::parse::{parse_statement, print_expr, print_select, print_statement};
use hedgerow_sql::rule::{Rule, Statement};

#[test]
fn cases() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cases");
    let update = std::env::var_os("HEDGEROW_UPDATE_CASES").is_some();
    let mut files: Vec<_> = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let mut count = 0;
    let mut failures = String::new();
    for file in files.iter().filter(|file| file.extension().is_some_and(|extension| extension == "txt")) {
        let text = std::fs::read_to_string(file).unwrap();
        let mut updated = String::new();
        for case in text.split("\n# ") {
            let case = case.strip_prefix("# ").unwrap_or(case);
            let (title, rest) = case.split_once("\n>>> ").unwrap_or_else(|| panic!("{}: {case}", file.display()));
            let (kind, rest) = rest.split_once('\n').unwrap();
            let (input, expected) = rest.split_once("\n<<<").unwrap_or_else(|| panic!("{}: {title}", file.display()));
            let found = outcome(kind, input);
            if !updated.is_empty() {
                updated.push('\n');
            }
            write!(updated, "# {title}\n>>> {kind}\n{input}\n<<<\n{found}").unwrap();
            count += 1;
            if expected.trim() != found.trim() {
                writeln!(failures, "{}: {title}\n--- expected{expected}\n--- found\n{found}", file.display()).unwrap();
            }
        }
        if update {
            std::fs::write(file, updated).unwrap();
        }
    }
    assert!(count > 100, "only {count} cases were found in {}", folder.display());
    assert!(update || failures.is_empty(), "{failures}");
}

fn outcome(kind: &str, input: &str) -> String {
    let mut out = String::new();
    if let (true, Some((file, document))) = (kind == "catalog", input.split_once("\n---\n")) {
        let mut objects = Objects::default();
        let statements = read("x.sql", file).into_result().unwrap();
        statements.iter().for_each(|statement| objects.apply(statement));
        let rule = parse_document("my_rule", document).unwrap();
        check(&rule, &objects).iter().for_each(|diagnostic| line(diagnostic, document, &mut out));
        return out;
    }
    let diagnostics = match kind {
        "sql" | "json" | "catalog" => {
            let reading = read(&format!("rules/my_rule.{}", if kind == "json" { "json" } else { "sql" }), input);
            let mut diagnostics = reading.diagnostics.clone();
            let statements: Vec<&Statement> = reading.statements.iter().map(|(statement, _)| statement).collect();
            if kind == "catalog" {
                let mut objects = Objects::default();
                statements.iter().for_each(|statement| objects.apply(statement));
                for statement in &statements {
                    if let Statement::Rule(rule) = statement {
                        diagnostics.extend(check(rule, &objects));
                    }
                }
            }
            if !diagnostics.iter().any(Diagnostic::is_error) && kind != "catalog" {
                for statement in statements {
                    canonical(statement, &mut out);
                }
            }
            diagnostics
        }
        "aws2016" | "aws2015" | "native" => {
            let dialect = match kind {
                "aws2016" => Dialect::Aws2016,
                "aws2015" => Dialect::Aws2015,
                _ => Dialect::Native,
            };
            match parse_statement(input, dialect) {
                Ok(select) => {
                    let printed = print_select(&select, dialect);
                    assert_eq!(parse_statement(&printed, dialect).as_ref(), Ok(&select), "{printed}");
                    writeln!(out, "= {printed}").unwrap();
                    check_select(&select, dialect)
                }
                Err(diagnostics) => diagnostics,
            }
        }
        other => panic!("unknown kind {other}"),
    };
    let drawn = render(&diagnostics, "rule", input, Style::Plain);
    let mut lines = String::new();
    for diagnostic in &diagnostics {
        assert!(drawn.contains(&diagnostic.message), "{drawn}");
        line(diagnostic, input, &mut lines);
    }
    lines + &out
}

fn line(diagnostic: &Diagnostic, input: &str, out: &mut String) {
    let place = |byte| {
        let at = position(input, byte);
        format!("{}:{}", at.line, at.column)
    };
    let severity = if diagnostic.severity == Severity::Error { "error" } else { "warning" };
    let start = place(diagnostic.span.start);
    let covered = input.get(diagnostic.span.start..diagnostic.span.end).unwrap();
    let covered = covered.lines().next().unwrap_or_default();
    writeln!(out, "{start} {severity} {}: {} @ `{covered}`", diagnostic.code, diagnostic.message).unwrap();
    for (span, label) in &diagnostic.labels {
        writeln!(out, "    {} {label}", place(span.start)).unwrap();
    }
    if let Some(help) = &diagnostic.help {
        writeln!(out, "    help: {help}").unwrap();
    }
}

/// The canonical text, which must read as the same statement.
fn canonical(statement: &Statement, out: &mut String) {
    let text = match statement {
        Statement::Table(table) => table.text.to_string(),
        Statement::Sink(sink) => sink.text.to_string(),
        Statement::Rule(rule) => rule.text.to_string(),
        Statement::Drop { .. } => print_statement(statement),
    };
    writeln!(out, "= {text}").unwrap();
    let file = if text.starts_with('{') { "other.json" } else { "other.sql" };
    let again = read(file, &text).into_result().unwrap_or_else(|found| panic!("{text}\n{found:?}"));
    assert_eq!(again, std::slice::from_ref(statement), "{text}");
    if let Statement::Rule(rule) = statement {
        rule_facts(rule, out);
    }
}

fn rule_facts(rule: &Rule, out: &mut String) {
    let reads = reads(rule);
    let paths: Vec<String> = reads.paths.iter().map(|path| path.join(".")).collect();
    let whole = if reads.whole { "*" } else { "" };
    writeln!(out, "reads [{}] {whole}", paths.join(", ")).unwrap();
    let Some(windowed) = &rule.windowed else { return };
    let print = |expr| print_expr(expr, rule.dialect);
    let keys: Vec<String> = windowed.keys.iter().map(print).collect();
    let aggregates: Vec<String> = windowed
        .aggregates
        .iter()
        .map(|aggregate| {
            let argument = aggregate.argument.as_ref().map_or("*".to_owned(), print);
            format!("{:?}({argument})", aggregate.function)
        })
        .collect();
    let items: Vec<String> =
        windowed.items.iter().map(|(name, expr)| format!("{} = {}", name.join("."), print(expr))).collect();
    let having = windowed.having.as_ref().map(|expr| format!(" having {}", print(expr))).unwrap_or_default();
    let (keys, aggregates, items) = (keys.join(", "), aggregates.join(", "), items.join(", "));
    writeln!(out, "window keys [{keys}] aggregates [{aggregates}] items [{items}]{having}").unwrap();
    for template in rule.templates() {
        writeln!(out, "template {}", hedgerow_sql::parse::print_template(template, rule.dialect)).unwrap();
    }
}
