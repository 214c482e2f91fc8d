//! CREATE SINK, and the WITH options of all statements.

use std::sync::Arc;

use crate::ast::Span;
use crate::diagnostic::Diagnostic;
use crate::rule::{OptionValue, SinkDef, Statement};
use crate::suggest;

use super::lexer::{Kind, Token};
use super::literal;
use super::parser::{Failed, Parse, Parser};

/// An option of a WITH list.
pub(super) struct Setting {
    pub name: Arc<str>,
    pub name_span: Span,
    pub value: OptionValue,
    pub value_span: Span,
}

/// The most options of one WITH list.
const MAX_OPTIONS: usize = 200;

/// Words in an option's name that make its value a credential.
pub const CREDENTIAL_WORDS: [&str; 9] =
    ["password", "passphrase", "secret", "token", "credential", "credentials", "private_key", "api_key", "access_key"];

/// Must the option's value be `SECRET('name')`?
pub fn is_credential(option: &str) -> bool {
    let option = option.to_ascii_lowercase().replace(['-', '.'], "_");
    let points_elsewhere = ["_file", "_path", "_url"].iter().any(|end| option.ends_with(end));
    !points_elsewhere && CREDENTIAL_WORDS.iter().any(|word| option.contains(word)) || option == "authorization"
}

impl Parser<'_> {
    pub(super) fn sink(&mut self) -> Parse<SinkDef> {
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

    /// `[WITH (name = value, …)]`.
    pub(super) fn with(&mut self) -> Parse<Vec<Setting>> {
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
            if settings.len() == MAX_OPTIONS {
                self.report(Diagnostic::error("option", name_span, format!("more than {MAX_OPTIONS} options")));
                return Err(Failed);
            }
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

    pub(super) fn unknown_option(&mut self, name: &str, span: Span, of: &str, known: &[&str]) {
        let help = suggest::did_you_mean(name, known.iter().copied())
            .unwrap_or_else(|| format!("its options: {}", known.join(", ")));
        self.report(Diagnostic::error("option", span, format!("{of} has no option {name}")).help(help));
    }
}
