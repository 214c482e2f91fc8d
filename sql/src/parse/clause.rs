//! What follows FROM: joins, WHERE, GROUP BY with its window, HAVING, and the emission clauses.

use crate::ast::{Absence, After, Dialect, Expr, Select, Span, Window};
use crate::diagnostic::Diagnostic;
use crate::rule::MAX_AFTER_US;

use super::lexer::Kind;
use super::literal;
use super::parser::{Failed, Parse, Parser};

/// The shortest window: `window_start` is in milliseconds.
const MIN_WINDOW_US: u64 = 1_000;
/// Stands for a window that is refused.
const UNREADABLE: Window = Window::Tumble { width_us: 10_000_000 };
/// The most expressions in GROUP BY besides the window.
const MAX_GROUPS: usize = 32;
/// The longest window: a year.
const MAX_WINDOW_US: u64 = 366 * 86_400 * 1_000_000;

impl Parser<'_> {
    /// The clauses after FROM in any order and number; what is wrong with one does not hide the next.
    pub fn clauses(&mut self, select: &mut Select) {
        let native = self.dialect == Dialect::Native;
        let mut last = 0;
        loop {
            let start = self.peek().span;
            let (rank, name, result) = if self.at_word("WHERE") {
                self.advance();
                (1, "WHERE", self.clause_expr("WHERE").map(|expr| select.filter = Some(expr)))
            } else if native && self.at_words("GROUP", "BY") {
                self.advance();
                self.advance();
                (2, "GROUP BY", self.group_by(select))
            } else if native && self.at_word("HAVING") {
                self.advance();
                (3, "HAVING", self.clause_expr("HAVING").map(|expr| select.having = Some(expr)))
            } else if native && self.at_join() {
                (0, "JOIN", self.join())
            } else if native && self.at_word("AFTER") {
                (4, "AFTER", self.absence(select))
            } else if native && self.at_word("LATENESS") {
                (5, "LATENESS", self.lateness())
            } else if native && self.at_word("EMIT") {
                (6, "EMIT", self.emit())
            } else {
                let token = self.peek();
                if matches!(token.kind, Kind::End | Kind::Sign(";" | "}")) || (native && self.begins_targets()) {
                    return;
                }
                self.unexpected("a clause");
                self.advance();
                self.skip_to_clause();
                if !self.at_word("FROM") {
                    continue;
                }
                self.unexpected("a clause");
                self.advance();
                continue;
            };
            if result.is_err() {
                self.skip_to_clause();
            }
            if rank < last || (rank == last && rank != 0) {
                let message =
                    if rank == last { format!("{name} stands twice") } else { format!("{name} stands too late") };
                let help = "the order is FROM, WHERE, GROUP BY, HAVING, AFTER, INTO";
                self.report(Diagnostic::error("syntax", start, message).help(help));
            }
            last = last.max(rank);
        }
    }

    fn begins_targets(&mut self) -> bool {
        self.at_word("INTO") || self.at_word("LATE") || self.at_words("ON", "ERROR")
    }

    fn clause_expr(&mut self, clause: &str) -> Parse<Expr> {
        let token = self.peek();
        // AWS has no clauses but these: there, `group` is a member like any other.
        let begins = match self.dialect {
            Dialect::Native => self.begins_clause(token),
            _ => self.is_word(token, "FROM") || self.is_word(token, "WHERE") || self.at_words("GROUP", "BY"),
        };
        if matches!(token.kind, Kind::End | Kind::Sign(";")) || begins {
            self.unexpected(&format!("a condition after {clause}"));
            return Err(Failed);
        }
        self.expr()
    }

    fn group_by(&mut self, select: &mut Select) -> Parse<()> {
        let mut windows = false;
        loop {
            let opens = matches!(self.peek_second().kind, Kind::Sign("("));
            let start = self.peek().span;
            if opens && self.at_word("tumble") {
                let window = self.tumble();
                // A window that could not be read is still one: its aggregates are not to blame.
                select.window = select.window.or(Some(UNREADABLE));
                let window = window?;
                if std::mem::replace(&mut windows, true) {
                    let message = "a rule has one window";
                    self.report(Diagnostic::error("window", start, message).help("write a rule for each window"));
                }
                select.window = Some(window);
            } else if opens && (self.at_word("hop") || self.at_word("session")) {
                let token = self.advance();
                let name = self.source(token).to_ascii_lowercase();
                self.advance();
                select.window = Some(UNREADABLE);
                self.skip_until(|_, token| token.kind == Kind::Sign(")"));
                self.expect_sign(")")?;
                let span = Span { start: start.start, end: self.last_end };
                self.not_available(span, &format!("{name} windows are"), "use tumble(INTERVAL '10 seconds')");
            } else {
                let key = self.expr()?;
                if select.group_by.len() == MAX_GROUPS {
                    let message = format!("more than {MAX_GROUPS} expressions to group by");
                    self.report(Diagnostic::error("group-by", key.span, message));
                    return Err(Failed);
                }
                select.group_by.push(key);
            }
            if !self.eat_sign(",") {
                return Ok(());
            }
        }
    }

    /// `tumble([time,] INTERVAL '…')`.
    fn tumble(&mut self) -> Parse<Window> {
        self.advance();
        self.advance();
        if !self.at_word("INTERVAL") && !matches!(self.peek().kind, Kind::String | Kind::Sign(")")) {
            let time = self.expr()?;
            let help = "leave it out: windows are cut by the time of receipt";
            self.not_available(time.span, "windows over a time of the payload are", help);
            if !self.eat_sign(",") {
                self.unexpected("`,` and an INTERVAL");
                return Err(Failed);
            }
        }
        let (width_us, span) = self.interval("an interval such as INTERVAL '10 seconds'")?;
        self.expect_sign(")")?;
        if !(MIN_WINDOW_US..=MAX_WINDOW_US).contains(&width_us) || !width_us.is_multiple_of(MIN_WINDOW_US) {
            let message = "a window is between 1 millisecond and 366 days long, in whole milliseconds";
            self.report(Diagnostic::error("window", span, message));
        }
        Ok(Window::Tumble { width_us })
    }

    /// `INTERVAL '15 minutes'`, also `INTERVAL '15' MINUTE`; in microseconds.
    pub fn interval(&mut self, what: &str) -> Parse<(u64, Span)> {
        let start = self.peek().span;
        if !self.eat_word("INTERVAL") {
            self.unexpected(what);
            if matches!(self.peek().kind, Kind::String)
                && let Some(last) = self.diagnostics.last_mut()
            {
                last.help = Some("put the word INTERVAL before it".into());
            }
            return Err(Failed);
        }
        let token = self.peek();
        if token.kind != Kind::String {
            self.unexpected("a text after INTERVAL, such as '15 minutes'");
            return Err(Failed);
        }
        self.advance();
        let mut text = literal::unquote(self.source(token), token.span.start, self.dialect).text;
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            let unit = self.peek();
            let word = self.source(unit).to_ascii_lowercase();
            if unit.kind == Kind::Word
                && ["second", "minute", "hour", "day", "week"].contains(&word.trim_end_matches('s'))
            {
                self.advance();
                text = format!("{text} {word}");
            }
        }
        let span = Span { start: start.start, end: self.last_end };
        match literal::interval(&text) {
            Ok(us) => Ok((us, span)),
            Err(problem) => {
                self.report(Diagnostic::error("interval", token.span, "this is no interval").help(problem));
                Err(Failed)
            }
        }
    }

    /// Refuses something that the language has but this version does not.
    pub fn not_available(&mut self, span: Span, what: &str, instead: &str) {
        let message = format!("{what} not available in this version");
        let diagnostic = Diagnostic::error("not-available", span, message);
        self.report(if instead.is_empty() { diagnostic } else { diagnostic.help(instead) });
    }

    fn at_join(&mut self) -> bool {
        self.at_word("JOIN") || ["LEFT", "RIGHT", "FULL", "INNER", "CROSS"].iter().any(|word| self.at_word(word))
    }

    /// `[LEFT] JOIN name [alias] ON expr`.
    fn join(&mut self) -> Parse<()> {
        let start = self.peek().span.start;
        while !self.at_word("JOIN") {
            self.advance();
            self.eat_word("OUTER");
            if !self.at_join() {
                self.unexpected("JOIN");
                return Err(Failed);
            }
        }
        self.advance();
        let name = self.name("a table after JOIN");
        let span = Span { start, end: self.last_end };
        self.not_available(span, "joins are", "write the rows into a table or lake and join in a query");
        name?;
        if !self.at_word("ON") {
            self.eat_word("AS");
            self.name("ON")?;
        }
        self.expect_word("ON")?;
        self.expr()?;
        Ok(())
    }

    /// `AFTER (interval | expr) UNLESS expr PARTITION BY expr, …`.
    fn absence(&mut self, select: &mut Select) -> Parse<()> {
        let start = self.advance().span.start;
        let after = if self.at_word("INTERVAL") || self.peek().kind == Kind::String {
            self.delay().map(After::Interval)
        } else if self.at_word("UNLESS") || matches!(self.peek().kind, Kind::End | Kind::Sign(";")) {
            self.unexpected("how long to wait, such as INTERVAL '15 minutes', or a number of seconds");
            Err(Failed)
        } else {
            self.expr().map(After::Seconds)
        };
        if after.is_err() {
            self.skip_until(|parser, token| parser.is_word(token, "UNLESS") || parser.begins_clause(token));
        }
        if !self.at_word("UNLESS") {
            self.unexpected("UNLESS");
            if let Some(last) = self.diagnostics.last_mut() {
                last.help.get_or_insert_with(|| "say what must not happen: UNLESS status = 'online'".into());
            }
            return Err(Failed);
        }
        self.advance();
        let unless = self.clause_expr("UNLESS")?;
        if !self.at_words("PARTITION", "BY") {
            self.unexpected("PARTITION BY");
            if let Some(last) = self.diagnostics.last_mut() {
                last.help.get_or_insert_with(|| "say what the timers belong to: PARTITION BY topic(2)".into());
            }
            return Err(Failed);
        }
        self.advance();
        self.advance();
        let mut keys = Vec::new();
        loop {
            keys.push(self.clause_expr("PARTITION BY")?);
            if !self.eat_sign(",") {
                break;
            }
        }
        let span = Span { start, end: self.last_end };
        select.absence = Some(Box::new(Absence { after: after?, unless, keys, span }));
        Ok(())
    }

    /// How long a key stays armed.
    fn delay(&mut self) -> Parse<u64> {
        let (us, span) = self.interval("an interval after AFTER")?;
        if !(MIN_WINDOW_US..=MAX_AFTER_US).contains(&us) {
            let message = "AFTER is between 1 millisecond and 366 days";
            self.report(Diagnostic::error("absence", span, message));
        }
        Ok(us)
    }

    fn lateness(&mut self) -> Parse<()> {
        let start = self.advance().span.start;
        let interval = self.interval("an interval after LATENESS");
        let span = Span { start, end: self.last_end };
        self.not_available(span, "LATENESS is", "windows are cut by the time of receipt: nothing is late");
        interval.map(|_| ())
    }

    fn emit(&mut self) -> Parse<()> {
        let start = self.advance().span.start;
        if self.eat_word("FINAL") {
            // One final row for each window is what there is.
            return Ok(());
        }
        if !self.eat_word("CHANGES") {
            self.unexpected("FINAL or CHANGES after EMIT");
            return Err(Failed);
        }
        let span = Span { start, end: self.last_end };
        self.not_available(span, "EMIT CHANGES is", "leave it out: each window gives one final row");
        Ok(())
    }
}
