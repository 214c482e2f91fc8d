//! The SELECT list and the statement: SET, SELECT, FROM, WHERE, in native files GROUP BY and HAVING.

use std::sync::Arc;

use crate::ast::{Dialect, Expr, ExprKind, Item, Items, PRESENCE_FILTER, Select, Span};
use crate::diagnostic::Diagnostic;

use super::lexer::{Kind, Token};
use super::parser::{Failed, Parse, Parser};

/// The longest name of a variable.
const MAX_VARIABLE: usize = 64;
/// The most items of a SELECT list.
const MAX_ITEMS: usize = 1000;
/// The most variables; the evaluator has the same bound.
pub(crate) const MAX_VARIABLES: usize = 32;

impl Parser<'_> {
    /// `[SET …] SELECT …` with the clauses of the dialect.
    pub fn select_statement(&mut self) -> Parse<Select> {
        let set = self.set()?;
        if !self.at_word("SELECT") {
            self.unexpected(if set.is_empty() { "SELECT" } else { "SELECT after SET" });
            return Err(Failed);
        }
        let first = self.advance();
        let items = match self.items() {
            Ok(items) => items,
            Err(Failed) => {
                self.skip_to_clause();
                Items::List(Vec::new())
            }
        };
        let mut select = Select {
            set,
            items,
            from: None,
            presence: false,
            filter: None,
            group_by: Vec::new(),
            window: None,
            having: None,
            absence: None,
        };
        let misspelt_from = self.after_items();
        if misspelt_from || self.at_word("FROM") {
            self.advance();
            match self.from(&mut select.presence) {
                Ok(from) => select.from = Some(from),
                Err(Failed) => self.skip_to_clause(),
            }
        } else if self.dialect == Dialect::Native {
            let span = Span { start: first.span.start, end: self.last_end };
            let help = "name the messages it reads: FROM 'macdonald/sensors/+'";
            self.report(Diagnostic::error("from", span, "the rule has no FROM").help(help));
        }
        self.clauses(&mut select);
        Ok(select)
    }

    /// Goes on to where a clause, or the end, follows the SELECT list, and reports what stands in between. True: that is
    /// a misspelt FROM, which is the current token.
    fn after_items(&mut self) -> bool {
        let token = self.peek();
        if matches!(token.kind, Kind::End | Kind::Sign(";" | ")")) || self.begins_clause(token) {
            return false;
        }
        if matches!(token.kind, Kind::Word | Kind::QuotedName | Kind::String | Kind::Number | Kind::Variable) {
            let near = crate::suggest::nearest(&self.source(token).to_ascii_uppercase(), ["FROM", "WHERE"].into_iter());
            self.unexpected("`,`, AS or FROM");
            if near == Some("FROM") && self.peek_second().kind == Kind::String {
                return true;
            }
            if near.is_none()
                && token.kind == Kind::Word
                && let Some(last) = self.diagnostics.last_mut()
            {
                let name = self.text.get(token.span.start..token.span.end).unwrap_or_default();
                last.help.get_or_insert_with(|| format!("a name for the value before it is given with AS {name}"));
            }
        } else {
            self.unexpected("`,` or FROM");
        }
        self.skip_to_clause();
        false
    }

    fn set(&mut self) -> Parse<Vec<(Arc<str>, Expr)>> {
        let mut set = Vec::new();
        if !self.at_word("SET") {
            return Ok(set);
        }
        self.advance();
        loop {
            if let Ok(variable) = self.assignment() {
                set.push(variable);
            } else {
                self.skip_until(|parser, token| {
                    token.kind == Kind::Sign(",") || parser.is_word(token, "SELECT") || parser.begins_clause(token)
                });
            }
            if !self.eat_sign(",") {
                return Ok(set);
            }
        }
    }

    fn assignment(&mut self) -> Parse<(Arc<str>, Expr)> {
        let token = self.peek();
        if token.kind != Kind::Variable {
            self.unexpected("a variable: @name");
            return Err(Failed);
        }
        self.advance();
        let name: Arc<str> = Arc::from(self.source(token).trim_start_matches('@'));
        if name.chars().count() > MAX_VARIABLE {
            let message = format!("a variable's name has at most {MAX_VARIABLE} characters");
            self.report(Diagnostic::error("variable", token.span, message));
        }
        if self.variables.as_ref().is_some_and(|known| known.len() >= MAX_VARIABLES) {
            let message = format!("more than {MAX_VARIABLES} variables");
            let help = "put what belongs together into one object: SET @a = {'x': …, 'y': …} and @a.x";
            self.report(Diagnostic::error("variable", token.span, message).help(help));
            self.exhaust();
            return Err(Failed);
        }
        if self.variables.as_ref().is_some_and(|known| known.contains(&name)) {
            let message = format!("@{name} is set twice");
            let help = "a variable is set once: choose another name";
            self.report(Diagnostic::error("variable", token.span, message).help(help));
        }
        if self.at_sign("-") {
            self.unexpected("`=`");
            if let Some(last) = self.diagnostics.last_mut() {
                last.help = Some("a variable's name has letters, digits and _ only".into());
            }
            return Err(Failed);
        }
        self.expect_sign("=")?;
        // Known only after its own expression: `@a = @a` refers to nothing.
        let value = self.expr();
        if let Some(known) = &mut self.variables {
            known.push(name.clone());
        }
        Ok((name, value?))
    }

    /// The SELECT list, after the word SELECT.
    pub fn items(&mut self) -> Parse<Items> {
        if self.at_word("DISTINCT") || self.at_word("ALL") {
            let next = self.peek_second();
            if matches!(next.kind, Kind::Word | Kind::Sign("*"))
                && !self.begins_clause(next)
                && !self.is_word(next, "AS")
            {
                let span = self.advance().span;
                self.report(
                    Diagnostic::error("syntax", span, "SELECT DISTINCT and SELECT ALL do not exist").help(
                        "every message gives one row; repeated rows are dropped by writing into a table with a key",
                    ),
                );
            }
        }
        if self.value_keyword() {
            return self.value_item();
        }
        let mut items = Vec::new();
        let mut height = 0;
        let mut sound = true;
        loop {
            match self.item(items.len() + 1) {
                Ok(item) => items.push(item),
                Err(Failed) => {
                    sound = false;
                    self.skip_until(|parser, token| {
                        matches!(token.kind, Kind::Sign("," | ")")) || parser.begins_clause(token)
                    });
                }
            }
            height = height.max(self.height);
            if !self.eat_sign(",") {
                break;
            }
            if items.len() >= MAX_ITEMS {
                let span = self.peek().span;
                let help = "select what belongs together as one object: {'x': …, 'y': …} AS a";
                let message = format!("more than {MAX_ITEMS} items");
                self.report(Diagnostic::error("too-long", span, message).help(help));
                self.exhaust();
                break;
            }
        }
        self.height = height;
        // The mistakes are reported; what is left of the list serves to find more.
        if sound || !items.is_empty() { Ok(Items::List(items)) } else { Err(Failed) }
    }

    /// Is the word VALUE here the keyword, or a member called value?
    fn value_keyword(&mut self) -> bool {
        if !self.at_word("VALUE") {
            return false;
        }
        let next = self.peek_second();
        match next.kind {
            Kind::End => false,
            Kind::Sign("*") => {
                let third = self.peek_third();
                matches!(third.kind, Kind::End | Kind::Sign(")")) || self.begins_clause(third)
            }
            Kind::Sign(sign) => matches!(sign, "(" | "[" | "{"),
            Kind::Word => {
                let everywhere = ["FROM", "AS", "AND", "OR", "IN", "WHERE"];
                let native = ["IS", "LIKE", "BETWEEN", "GROUP", "HAVING", "INTO"];
                let not_infix = self.is_word(next, "NOT") && {
                    let third = self.peek_third();
                    ["IN", "LIKE", "BETWEEN"].iter().any(|word| self.is_word(third, word))
                };
                let is_native = self.dialect == Dialect::Native;
                !everywhere.iter().any(|word| self.is_word(next, word))
                    && !(is_native && (not_infix || native.iter().any(|word| self.is_word(next, word))))
            }
            _ => true,
        }
    }

    fn value_item(&mut self) -> Parse<Items> {
        self.advance();
        let expr = if self.at_sign("*") {
            self.height = 1;
            let span = self.advance().span;
            Expr { kind: ExprKind::Star, span }
        } else {
            self.expr()?
        };
        if self.at_word("AS") {
            let start = self.advance().span.start;
            // Its mistakes, if any, do not matter beside this one.
            let known = self.diagnostics.len();
            let alias = self.alias();
            self.diagnostics.truncate(known);
            let message = "SELECT VALUE gives a bare value, which has no name";
            let help = "leave out AS, or leave out VALUE";
            self.report(Diagnostic::error("value", Span { start, end: self.last_end }, message).help(help));
            alias?;
        } else if self.at_sign(",") {
            let span = self.peek().span;
            let help = "build an object: SELECT VALUE {'a': x, 'b': y}, or leave out VALUE";
            self.report(Diagnostic::error("value", span, "SELECT VALUE has exactly one value").help(help));
            self.skip_until(|parser, token| token.kind == Kind::Sign(")") || parser.begins_clause(token));
        }
        Ok(Items::Value(expr))
    }

    /// One item; `number` is its place in the list, from 1.
    fn item(&mut self, number: usize) -> Parse<Item> {
        let expr = if self.at_sign("*") {
            self.height = 1;
            let span = self.advance().span;
            Expr { kind: ExprKind::Star, span }
        } else {
            self.item_expr()?
        };
        let alias = if self.eat_word("AS") {
            Some(self.alias()?)
        } else if matches!(expr.kind, ExprKind::Star) {
            None
        } else {
            Some(vec![self.implicit_name(&expr, number)])
        };
        Ok(Item { expr, alias })
    }

    fn item_expr(&mut self) -> Parse<Expr> {
        let token = self.peek();
        if self.begins_clause(token) && self.is_word(token, "FROM") {
            let message = "an item is missing before FROM";
            let help = "remove the comma before FROM, or name what to select; `*` is everything";
            self.report(Diagnostic::error("syntax", token.span, message).help(help));
            return Err(Failed);
        }
        self.expr()
    }

    /// A member's last name, a function's name, a variable's name; anything else is called by its place: `_1`, `_2` …
    fn implicit_name(&self, expr: &Expr, number: usize) -> Arc<str> {
        match &expr.kind {
            ExprKind::Name(name) | ExprKind::Member { name, .. } | ExprKind::Variable(name) => name.clone(),
            ExprKind::Call { function, .. } => {
                // As it was written: isNull, not isnull.
                let start = expr.span.start;
                match self.text.get(start..start + function.len()) {
                    Some(written) if written.eq_ignore_ascii_case(function) => Arc::from(written),
                    _ => function.clone(),
                }
            }
            _ => Arc::from(format!("_{number}")),
        }
    }

    /// A name, or a path of names, after AS.
    fn alias(&mut self) -> Parse<Vec<Arc<str>>> {
        let token = self.peek();
        if ["FROM", "WHERE", "AS"].iter().any(|word| self.is_word(token, word)) {
            let message = format!("a name is missing after AS, before {}", self.source(token));
            self.report(Diagnostic::error("syntax", token.span, message));
            return Err(Failed);
        }
        let mut path = vec![self.name("a name after AS")?.0];
        while self.eat_sign(".") {
            path.push(self.name("a name after `.`")?.0);
        }
        Ok(path)
    }

    /// The source, after the word FROM: a topic filter in quotes, or bare up to white space.
    fn from(&mut self, presence: &mut bool) -> Parse<(Arc<str>, Span)> {
        let rest = self.raw_rest();
        let blanks = rest.len() - rest.trim_start().len();
        let rest = rest.trim_start();
        let start = self.last_end + blanks;
        let native = self.dialect == Dialect::Native;
        let first = rest.chars().next();
        let filter = match first {
            None | Some(';') => {
                self.peek();
                self.unexpected("a topic filter after FROM, such as 'macdonald/sensors/+'");
                return Err(Failed);
            }
            Some('\'') => self.quoted_filter()?,
            Some('"') if !native => self.quoted_filter()?,
            Some('"') => {
                let token = self.advance();
                let text = self.quoted_name(token);
                let help = format!("a topic filter is a text: FROM '{text}'");
                self.report(Diagnostic::error("from", token.span, "\"…\" is a name, not a topic filter").help(help));
                (text, token.span)
            }
            Some(_) => self.bare_filter(rest, start, presence)?,
        };
        self.check_filter(&filter);
        if native {
            self.filter_alias()?;
        }
        Ok(filter)
    }

    fn quoted_filter(&mut self) -> Parse<(Arc<str>, Span)> {
        let token = self.advance();
        let extract = super::literal::unquote(self.source(token), token.span.start, self.dialect);
        Ok((Arc::from(extract.text), token.span))
    }

    /// Text up to white space; in native files also up to `;`, and it must look like a filter.
    fn bare_filter(&mut self, rest: &str, start: usize, presence: &mut bool) -> Parse<(Arc<str>, Span)> {
        let native = self.dialect == Dialect::Native;
        let length = rest.find(|c: char| c.is_whitespace() || (native && c == ';')).unwrap_or(rest.len());
        let text = rest.get(..length).unwrap_or_default();
        let span = Span { start, end: start + length };
        let looks_like_filter = text.contains(['/', '+', '#']) || text.starts_with('$');
        let token = Token { kind: Kind::Word, span };
        if self.begins_clause(token) && !looks_like_filter {
            self.unexpected("a topic filter after FROM, such as 'macdonald/sensors/+'");
            return Err(Failed);
        }
        if native && text.eq_ignore_ascii_case("presence") {
            self.jump(span.end);
            *presence = true;
            return Ok((Arc::from(PRESENCE_FILTER), span));
        }
        let is_name = text.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
        if native && is_name {
            self.jump(span.end);
            return Ok((crate::notify::filter(text).into(), span));
        }
        if native && !looks_like_filter {
            let message = format!("`{text}` is neither a topic filter nor the name of a topic");
            let help = format!("for messages of that topic write it in quotes: FROM '{text}'");
            self.report(Diagnostic::error("from", span, message).help(help));
            self.jump(span.end);
            return Err(Failed);
        }
        self.jump(span.end);
        let message = "this topic filter is not in quotes";
        self.report(Diagnostic::warning("bare-filter", span, message).help(format!("write FROM '{text}'")));
        Ok((Arc::from(text), span))
    }

    fn check_filter(&mut self, (filter, span): &(Arc<str>, Span)) {
        if let Err(problem) = crate::topic::validate_filter(filter) {
            let quoted = self.slice(*span).starts_with(['\'', '"']);
            let place = match problem.position() {
                Some(at) if self.slice(*span).len() == filter.len() + 2 * usize::from(quoted) => {
                    let start = span.start + usize::from(quoted) + at;
                    Span { start, end: start + 1 }
                }
                _ => *span,
            };
            let message = format!("`{filter}` is no topic filter: {problem}");
            self.report(Diagnostic::error("topic-filter", place, message));
        } else if filter.starts_with("$aws/rules/") {
            let message = "rules cannot read the topics of basic ingest";
            let help = "leave out FROM (AWS rules), or use the topic after `$aws/rules/<rule>/`";
            self.report(Diagnostic::error("topic-filter", *span, message).help(help));
        } else if filter.starts_with("$share/") {
            let message = "a rule sees every message once, it has no shared subscription";
            let help = filter.splitn(3, '/').nth(2).map(|rest| format!("write FROM '{rest}'"));
            self.report(Diagnostic::error("topic-filter", *span, message).maybe_help(help));
        }
    }

    /// `[AS] name` after a native filter: a name for the message, of use in joins only.
    fn filter_alias(&mut self) -> Parse<()> {
        let keyword = self.eat_word("AS");
        let token = self.peek();
        let named = matches!(token.kind, Kind::Word | Kind::QuotedName);
        let join = ["JOIN", "LEFT", "INNER", "RIGHT", "FULL", "CROSS"].iter().any(|word| self.is_word(token, word));
        let ends = {
            let next = self.peek_second();
            matches!(next.kind, Kind::End | Kind::Sign(";")) || self.begins_clause(next)
        };
        if keyword || (named && !join && !self.begins_clause(token) && ends && !self.near_clause(token)) {
            let span = self.name("a name for the message")?.1;
            let message = "a name for the messages of FROM is not available in this version";
            let help = "members are named directly: temperature, not m.temperature";
            self.report(Diagnostic::error("not-available", span, message).help(help));
        }
        Ok(())
    }

    fn near_clause(&self, token: Token) -> bool {
        let upper = self.source(token).to_ascii_uppercase();
        crate::suggest::nearest(&upper, super::parser::CLAUSES.iter().copied()).is_some()
    }
}
