//! The parser's state: the current token, what was found wrong so far, and how to go on after a mistake.

use std::sync::Arc;

use crate::ast::{Dialect, Span};
use crate::diagnostic::Diagnostic;
use crate::suggest;

use super::lexer::{Bad, Kind, Lexer, Token};
use super::{MAX_DEPTH, MAX_DIAGNOSTICS, MAX_HEIGHT, MAX_TEXT};

/// A mistake was reported; the caller goes on at the next place that makes sense.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failed;

/// A result whose error is already reported.
pub(crate) type Parse<T> = Result<T, Failed>;

/// The words a clause begins with.
pub(super) const CLAUSES: [&str; 12] =
    ["FROM", "WHERE", "GROUP", "HAVING", "INTO", "AFTER", "UNLESS", "PARTITION", "EMIT", "LATENESS", "LATE", "ON"];

/// Keywords that an unexpected word may have been meant to be.
const WORDS: [&str; 24] = [
    "SELECT", "FROM", "WHERE", "GROUP", "HAVING", "INTO", "CREATE", "REPLACE", "DROP", "TABLE", "SINK", "RULE",
    "PRIMARY", "WITH", "TOPIC", "RETAIN", "ERROR", "INTERVAL", "SECRET", "EXISTS", "BETWEEN", "THEN", "ELSE", "WHEN",
];

/// Where the parser is in a text, and what it found wrong so far.
pub(crate) struct Parser<'a> {
    pub text: &'a str,
    pub dialect: Dialect,
    pub diagnostics: Vec<Diagnostic>,
    /// The variables set so far; `None`: not known, not checked.
    pub variables: Option<Vec<Arc<str>>>,
    lexer: Lexer<'a>,
    /// The current token, read when it is first asked for.
    token: Option<Token>,
    /// End of the last token that was taken.
    pub last_end: usize,
    /// The text in quotes that was taken last.
    last_text: Option<Span>,
    depth: u32,
    /// Height of the expression parsed last.
    pub height: u32,
    /// How many CASE are open: within, WHEN, THEN, ELSE and END are keywords.
    pub open_cases: u32,
}

impl<'a> Parser<'a> {
    pub fn new(text: &'a str, dialect: Dialect) -> Self {
        Self::starting_at(text, dialect, 0)
    }

    /// A parser of the text from a byte on; spans are those of the whole text.
    pub fn starting_at(text: &'a str, dialect: Dialect, at: usize) -> Self {
        let mut parser = Self {
            text,
            dialect,
            diagnostics: Vec::new(),
            variables: Some(Vec::new()),
            lexer: Lexer::new(text, dialect, at),
            token: None,
            last_end: at,
            last_text: None,
            depth: 0,
            height: 0,
            open_cases: 0,
        };
        if text.len() > MAX_TEXT {
            parser.lexer.at = text.len();
            let message = format!("the text is longer than {MAX_TEXT} bytes");
            parser.report(Diagnostic::error("too-long", Span::default(), message));
        }
        parser
    }

    /// Runs a parser that must reach the end of the text.
    pub fn whole<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parse<T>) -> Parse<T> {
        let result = parse(self)?;
        if self.peek().kind != Kind::End {
            self.unexpected("the end");
            self.exhaust();
        }
        Ok(result)
    }

    /// The result, if nothing is wrong with the text.
    pub fn outcome<T>(self, result: Parse<T>) -> Result<T, Vec<Diagnostic>> {
        match result {
            Ok(value) if !self.diagnostics.iter().any(Diagnostic::is_error) => Ok(value),
            _ => Err(self.diagnostics),
        }
    }

    // --- tokens

    /// The current token. Bad ones are reported, then skipped or taken for what they would have been.
    pub fn peek(&mut self) -> Token {
        if let Some(token) = self.token {
            return token;
        }
        loop {
            let mut token = self.lexer.next();
            if let Kind::Bad(bad) = token.kind {
                let source = self.lexer.source(token);
                self.report(bad_token(bad, token.span, source));
                match bad {
                    Bad::UnclosedText => token.kind = Kind::String,
                    Bad::UnclosedName => token.kind = Kind::QuotedName,
                    Bad::NumberWithLetters => token.kind = Kind::Number,
                    Bad::LonelyAt => token.kind = Kind::Variable,
                    Bad::Character | Bad::Comment | Bad::UnclosedComment => continue,
                }
            }
            self.token = Some(token);
            return token;
        }
    }

    /// The token after the current one.
    pub fn peek_second(&mut self) -> Token {
        self.peek();
        let mut lexer = self.lexer;
        lexer.next()
    }

    /// The token after the one after the current one.
    pub fn peek_third(&mut self) -> Token {
        self.peek();
        let mut lexer = self.lexer;
        lexer.next();
        lexer.next()
    }

    /// Takes the current token.
    pub fn advance(&mut self) -> Token {
        let token = self.peek();
        if token.kind != Kind::End {
            self.token = None;
            self.last_end = token.span.end;
        }
        if token.kind == Kind::String {
            self.last_text = Some(token.span);
        }
        token
    }

    /// The text of a token.
    pub fn source(&self, token: Token) -> &'a str {
        self.lexer.source(token)
    }

    pub fn slice(&self, span: Span) -> &'a str {
        self.text.get(span.start..span.end).unwrap_or_default()
    }

    /// The text right after the last token taken; only before the next one is looked at.
    pub fn raw_rest(&self) -> &'a str {
        self.text.get(self.last_end..).unwrap_or_default()
    }

    /// Goes on reading tokens at a byte.
    pub fn jump(&mut self, at: usize) {
        self.token = None;
        self.lexer.at = at;
        self.last_end = at;
    }

    pub fn at_sign(&mut self, sign: &str) -> bool {
        matches!(self.peek().kind, Kind::Sign(found) if found == sign)
    }

    pub fn eat_sign(&mut self, sign: &str) -> bool {
        let found = self.at_sign(sign);
        if found {
            self.advance();
        }
        found
    }

    /// Takes the sign, or reports what stands there instead.
    pub fn expect_sign(&mut self, sign: &str) -> Parse<Span> {
        if self.at_sign(sign) {
            return Ok(self.advance().span);
        }
        self.unexpected(&format!("`{sign}`"));
        Err(Failed)
    }

    pub fn is_word(&self, token: Token, word: &str) -> bool {
        token.kind == Kind::Word && self.source(token).eq_ignore_ascii_case(word)
    }

    pub fn at_word(&mut self, word: &str) -> bool {
        let token = self.peek();
        self.is_word(token, word)
    }

    /// Is the current token this word and the next one that?
    pub fn at_words(&mut self, first: &str, second: &str) -> bool {
        self.at_word(first) && {
            let token = self.peek_second();
            self.is_word(token, second)
        }
    }

    pub fn eat_word(&mut self, word: &str) -> bool {
        let found = self.at_word(word);
        if found {
            self.advance();
        }
        found
    }

    pub fn expect_word(&mut self, word: &str) -> Parse<Span> {
        if self.at_word(word) {
            return Ok(self.advance().span);
        }
        self.unexpected(word);
        Err(Failed)
    }

    /// A name: a word, in native files also `"…"`.
    pub fn name(&mut self, what: &str) -> Parse<(Arc<str>, Span)> {
        let token = self.peek();
        match token.kind {
            Kind::Word => {
                self.advance();
                Ok((Arc::from(self.source(token)), token.span))
            }
            Kind::QuotedName => {
                self.advance();
                Ok((self.quoted_name(token), token.span))
            }
            Kind::String => {
                let text = self.source(token);
                let bare = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
                let help = if self.dialect == Dialect::Native {
                    format!("'…' is text; a name is written {bare} or \"{bare}\"")
                } else {
                    format!("a name is written without quotes: {bare}")
                };
                self.report(
                    Diagnostic::error("syntax", token.span, format!("expected {what}, found a text")).help(help),
                );
                self.advance();
                Err(Failed)
            }
            _ => {
                self.unexpected(what);
                Err(Failed)
            }
        }
    }

    /// The name that a `"…"` token means.
    pub fn quoted_name(&mut self, token: Token) -> Arc<str> {
        let source = self.source(token);
        let name = source.strip_prefix('"').unwrap_or(source);
        let name = name.strip_suffix('"').unwrap_or(name).replace("\"\"", "\"");
        if name.is_empty() {
            self.report(Diagnostic::error("syntax", token.span, "a name has at least one character"));
        }
        Arc::from(name)
    }

    // --- mistakes

    /// Notes a diagnostic. Beyond [`MAX_DIAGNOSTICS`] reading stops.
    pub fn report(&mut self, diagnostic: Diagnostic) {
        if self.diagnostics.len() < MAX_DIAGNOSTICS {
            self.diagnostics.push(diagnostic);
        } else {
            self.exhaust();
        }
    }

    /// Skips the rest of the text.
    pub fn exhaust(&mut self) {
        let end = self.text.len();
        self.lexer.at = end;
        self.token = Some(Token { kind: Kind::End, span: Span { start: end, end } });
    }

    /// Reports the current token where something else was expected.
    pub fn unexpected(&mut self, expected: &str) {
        let token = self.peek();
        // A place that was already complained about (an unclosed text, a strange character) is not named twice.
        if self.diagnostics.iter().any(|earlier| earlier.is_error() && overlap(earlier.span, token.span)) {
            return;
        }
        let found = match token.kind {
            Kind::End => "the text ends".to_owned(),
            Kind::String => "found a text".to_owned(),
            _ => format!("found `{}`", shortened(self.source(token))),
        };
        let span = if token.kind == Kind::End { Span { start: self.last_end, end: self.last_end } } else { token.span };
        let help = self.advice(token);
        let mut diagnostic =
            Diagnostic::error("syntax", span, format!("expected {expected}, {found}")).maybe_help(help);
        // Right after a closing quote: most likely that quote was meant to open a text.
        if let Some(text) = self.last_text
            && text.end == token.span.start
            && token.kind == Kind::Word
        {
            diagnostic.help = Some("is a quote missing before it?".into());
            diagnostic.labels.push((text, "this text ends there".into()));
        }
        self.report(diagnostic);
    }

    /// What the writer of an unexpected token may have meant.
    fn advice(&self, token: Token) -> Option<String> {
        let source = self.source(token);
        if token.kind == Kind::Sign(";") {
            return match self.dialect {
                Dialect::Native => None,
                _ => Some("an AWS rule holds one statement, without `;`".into()),
            };
        }
        if token.kind != Kind::Word {
            return None;
        }
        let upper = source.to_ascii_uppercase();
        let native = self.dialect == Dialect::Native;
        Some(match upper.as_str() {
            "ORDER" => "rows keep the order of the messages: there is no ORDER BY".into(),
            "LIMIT" => "a rule sees every message: there is no LIMIT; use WHERE".into(),
            "DISTINCT" => "there is no DISTINCT".into(),
            "UNION" => "write two rules: there is no UNION".into(),
            "SET" => "SET stands before SELECT, once: SET @a = …, @b = … SELECT …".into(),
            "GROUP" | "HAVING" | "JOIN" | "LIKE" | "BETWEEN" | "IS" | "INTO" if !native => {
                format!("{upper} is part of Hedgerow's own rule files (.sql), not of AWS rules")
            }
            "WINDOW" | "OVER" => "windows are written in GROUP BY: tumble(INTERVAL '10 seconds')".into(),
            _ => {
                let words: &[&str] = if native { &WORDS } else { &["SELECT", "FROM", "WHERE", "THEN", "ELSE", "WHEN"] };
                let meant = suggest::nearest(&upper, words.iter().copied())?;
                format!("did you mean {meant}?")
            }
        })
    }

    /// Skips tokens until `stop` holds for one outside brackets, or the text ends.
    pub fn skip_until(&mut self, mut stop: impl FnMut(&mut Self, Token) -> bool) {
        let mut open = 0_u32;
        loop {
            let token = self.peek();
            match token.kind {
                Kind::End => return,
                Kind::Sign(";") if self.dialect == Dialect::Native => return,
                _ if open == 0 && stop(self, token) => return,
                Kind::Sign("(" | "[" | "{") => open += 1,
                Kind::Sign(")" | "]" | "}") => open = open.saturating_sub(1),
                _ => {}
            }
            self.advance();
        }
    }

    /// Is the token the first word of a clause?
    pub fn begins_clause(&self, token: Token) -> bool {
        token.kind == Kind::Word && CLAUSES.iter().any(|clause| self.is_word(token, clause))
    }

    /// Skips to the next clause, statement or end.
    pub fn skip_to_clause(&mut self) {
        self.skip_until(|parser, token| parser.begins_clause(token));
    }

    // --- limits

    /// Runs a parser one level deeper.
    pub fn nested<T>(&mut self, parse: impl FnOnce(&mut Self) -> Parse<T>) -> Parse<T> {
        if self.depth >= MAX_DEPTH {
            let span = self.peek().span;
            let message = format!("expressions are nested more than {MAX_DEPTH} deep here");
            self.report(Diagnostic::error("too-deep", span, message).help("take parts out with SET @name = …"));
            self.exhaust();
            return Err(Failed);
        }
        self.depth += 1;
        let result = parse(self);
        self.depth -= 1;
        result
    }

    /// Notes that the expression just built stands `height` tall.
    pub fn grown(&mut self, height: u32) -> Parse<()> {
        self.height = height;
        if height <= MAX_HEIGHT {
            return Ok(());
        }
        let span = self.peek().span;
        let message =
            format!("the expression is too long: more than {MAX_HEIGHT} operations build on one another here");
        self.report(
            Diagnostic::error("too-deep", span, message)
                .help("use IN with a list, or take parts out with SET @name = …"),
        );
        self.exhaust();
        Err(Failed)
    }
}

fn overlap(a: Span, b: Span) -> bool {
    a.start < b.end && b.start < a.end
}

/// A token's text for a message: one line, not too long.
pub(super) fn shortened(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    if line.chars().count() <= 40 {
        line.to_owned()
    } else {
        format!("{}…", line.chars().take(40).collect::<String>())
    }
}

fn bad_token(bad: Bad, span: Span, source: &str) -> Diagnostic {
    let quote = source.chars().next().unwrap_or('\'');
    match bad {
        Bad::UnclosedText => Diagnostic::error("unclosed", span, "this text is never closed")
            .help(format!("end it with {quote}; a {quote} inside is written twice")),
        Bad::UnclosedName => Diagnostic::error("unclosed", span, "this quoted name is never closed")
            .help("end it with \"; for text use single quotes"),
        Bad::UnclosedComment => {
            Diagnostic::error("unclosed", span, "this comment is never closed").help("end it with */")
        }
        Bad::NumberWithLetters => {
            let help = "a name cannot begin with a digit; such a member is read with get(object, 'name')";
            Diagnostic::error("syntax", span, format!("`{}` is neither a number nor a name", shortened(source)))
                .help(help)
        }
        Bad::LonelyAt => Diagnostic::error("syntax", span, "`@` needs a name")
            .help("a variable is written @name: letters, digits and _"),
        Bad::Comment => Diagnostic::error("syntax", span, "AWS rules have no comments")
            .help("use the document's \"description\", or a .sql rule file; two minus signs are written apart: - -"),
        Bad::Character => {
            let help = match source {
                "`" => {
                    Some("a name with special characters is read with get(*, 'name'), in .sql files also as \"name\"")
                }
                "’" | "‘" | "“" | "”" => Some("use straight quotes: '"),
                "$" => Some("`${…}` belongs into the texts of actions; a topic filter is written in quotes"),
                "&" => Some("write AND"),
                "|" => Some("write OR, or || to join texts"),
                "!" => Some("write NOT, or <>"),
                _ => None,
            };
            Diagnostic::error("syntax", span, format!("`{source}` has no meaning here"))
                .maybe_help(help.map(str::to_owned))
        }
    }
}
