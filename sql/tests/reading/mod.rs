//! What holds of every text that is read as rules: the places of mistakes lie inside it, and what is accepted has a
//! canonical text that reads as the same thing.

use hedgerow_sql::analyze::{Reading, read, read_document, read_file, reads};
use hedgerow_sql::ast::Dialect;
use hedgerow_sql::diagnostic::{Diagnostic, Style, render};
use hedgerow_sql::parse::{MAX_TEXT, parse_statement, parse_template, print_select, print_statement, print_template};
use hedgerow_sql::rule::Statement;

fn well_formed(diagnostics: &[Diagnostic], text: &str) {
    for diagnostic in diagnostics {
        let spans = std::iter::once(diagnostic.span).chain(diagnostic.labels.iter().map(|(span, _)| *span));
        for span in spans {
            assert!(span.start <= span.end && span.end <= text.len(), "{diagnostic:?} in {text:?}");
            assert!(text.is_char_boundary(span.start) && text.is_char_boundary(span.end), "{diagnostic:?} in {text:?}");
        }
        assert!(!diagnostic.message.is_empty());
    }
    let drawn = render(diagnostics, "f", text, Style::Plain);
    assert_eq!(drawn.is_empty(), diagnostics.is_empty());
}

fn check(reading: &Reading, text: &str) {
    well_formed(&reading.diagnostics, text);
    if !reading.is_sound() {
        return;
    }
    for (statement, span) in &reading.statements {
        assert!(span.end <= text.len());
        let canonical = match statement {
            Statement::Rule(rule) => {
                reads(rule);
                rule.text.to_string()
            }
            other => print_statement(other),
        };
        let file = if canonical.starts_with('{') { "x.json" } else { "x.sql" };
        let again = read(file, &canonical).into_result();
        assert_eq!(again.as_deref(), Ok(std::slice::from_ref(statement)), "{canonical}");
    }
}

/// Reads the text as everything it could be.
pub fn everything(text: &str) {
    check(&read_file(text), text);
    check(&read_document("stem", text), text);
    for dialect in [Dialect::Aws2015, Dialect::Aws2016, Dialect::Native] {
        match parse_statement(text, dialect) {
            Ok(select) => {
                let printed = print_select(&select, dialect);
                // What is printed may be longer than what was read, and then too long to be read.
                if printed.len() > MAX_TEXT {
                    continue;
                }
                assert_eq!(parse_statement(&printed, dialect), Ok(select), "{printed}");
            }
            Err(diagnostics) => well_formed(&diagnostics, text),
        }
        match parse_template(text, dialect) {
            Ok(template) => {
                let printed = print_template(&template, dialect);
                assert_eq!(parse_template(&printed, dialect), Ok(template), "{printed}");
            }
            Err(diagnostics) => well_formed(&diagnostics, text),
        }
    }
}
