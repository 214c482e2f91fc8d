//! The smallest expressions: literals, names, calls, CASE, CAST, parentheses, nested queries.

use std::sync::Arc;

use crate::ast::{CastType, Dialect, Expr, ExprKind, Span, Subquery};
use crate::diagnostic::Diagnostic;
use crate::value::Value;

use super::lexer::{Kind, Token};
use super::literal;
use super::parser::{Failed, Parse, Parser};

impl Parser<'_> {
    pub(super) fn primary(&mut self) -> Parse<Expr> {
        let token = self.peek();
        let start = token.span.start;
        self.height = 1;
        let kind = match token.kind {
            Kind::Number => {
                self.advance();
                ExprKind::Literal(self.number(token))
            }
            Kind::String => {
                self.advance();
                let extract = literal::unquote(self.source(token), start, self.dialect);
                ExprKind::Literal(literal::string(&extract.text))
            }
            Kind::QuotedName => {
                self.advance();
                ExprKind::Name(self.quoted_name(token))
            }
            Kind::Variable => {
                self.advance();
                ExprKind::Variable(self.variable(token))
            }
            Kind::Sign("(") => return self.parenthesis(),
            Kind::Sign("[") => {
                self.advance();
                self.since_2016(token.span, "array literals");
                let (items, height) = self.comma_list("]", Self::expr)?;
                self.expect_sign("]")?;
                self.grown(height + 1)?;
                ExprKind::Array(items)
            }
            Kind::Sign("{") => {
                self.advance();
                self.since_2016(token.span, "object literals");
                let (members, height) = self.comma_list("}", Self::member)?;
                self.expect_sign("}")?;
                self.grown(height + 1)?;
                ExprKind::Object(members)
            }
            Kind::Sign("*") => {
                let help = "`*`, the whole payload, stands alone in SELECT or as an argument: get(*, 'name')";
                let message = "a value is missing before `*`";
                self.report(Diagnostic::error("star", token.span, message).help(help));
                return Err(Failed);
            }
            Kind::Sign(".") => {
                self.unexpected("a value");
                if let Some(last) = self.diagnostics.last_mut() {
                    last.help.get_or_insert_with(|| "a number begins with a digit: 0.5".into());
                }
                return Err(Failed);
            }
            Kind::Word => self.word(token)?,
            _ => {
                self.unexpected("a value");
                return Err(Failed);
            }
        };
        Ok(Expr { kind, span: Span { start, end: self.last_end } })
    }

    fn number(&mut self, token: Token) -> Value {
        let source = self.source(token);
        if source.ends_with(|c: char| c.is_ascii_digit())
            && source.chars().all(|c| c.is_ascii_digit() || "eE.+-".contains(c))
        {
            if let Some(value) = Value::literal_number(source) {
                return value;
            }
            let message = "this number is out of range";
            let help = "numbers reach from 1E-999 to 9.99E999, with 34 digits";
            self.report(Diagnostic::error("number", token.span, message).help(help));
        }
        Value::Int(0)
    }

    fn variable(&mut self, token: Token) -> Arc<str> {
        let name = self.source(token).trim_start_matches('@');
        if let Some(known) = &self.variables
            && !name.is_empty()
            && !known.iter().any(|known| &**known == name)
        {
            let help = match crate::suggest::nearest(name, known.iter().map(|name| &**name)) {
                Some(near) => format!("did you mean @{near}?"),
                None => format!("set it before SELECT, and before it is used: SET @{name} = … SELECT …"),
            };
            let message = format!("the variable @{name} is not set here");
            self.report(Diagnostic::error("unknown-variable", token.span, message).help(help));
        }
        Arc::from(name)
    }

    fn since_2016(&mut self, span: Span, what: &str) {
        if self.dialect == Dialect::Aws2015 {
            let message = format!("{what} need the SQL version 2016-03-23");
            self.report(
                Diagnostic::error("version", span, message)
                    .help("add \"awsIotSqlVersion\": \"2016-03-23\" to the rule; without it, 2015-10-08 applies"),
            );
        }
    }

    fn parenthesis(&mut self) -> Parse<Expr> {
        let open = self.advance();
        if self.at_word("SELECT") {
            let subquery = self.subquery()?;
            self.expect_sign(")")?;
            let span = Span { start: open.span.start, end: self.last_end };
            return Ok(Expr { kind: ExprKind::Subquery(Box::new(subquery)), span });
        }
        let expr = self.expr()?;
        if !self.at_sign(")") {
            self.unexpected("`)`");
            if let Some(last) = self.diagnostics.last_mut()
                && !last.labels.iter().any(|(span, _)| *span == open.span)
            {
                last.labels.push((open.span, "opened here".into()));
            }
            return Err(Failed);
        }
        self.advance();
        Ok(expr)
    }

    /// Items up to (not including) `close`, and the height of the tallest.
    pub(super) fn comma_list<T>(
        &mut self,
        close: &str,
        mut item: impl FnMut(&mut Self) -> Parse<T>,
    ) -> Parse<(Vec<T>, u32)> {
        let mut items = Vec::new();
        let mut height = 0;
        if self.at_sign(close) {
            return Ok((items, height));
        }
        loop {
            items.push(item(self)?);
            height = height.max(self.height);
            if !self.at_sign(",") {
                return Ok((items, height));
            }
            let comma = self.advance();
            if self.at_sign(close) {
                let message = format!("nothing follows this comma before `{close}`");
                self.report(Diagnostic::error("syntax", comma.span, message).help("remove the comma"));
                return Ok((items, height));
            }
        }
    }

    fn member(&mut self) -> Parse<(Arc<str>, Expr)> {
        let token = self.peek();
        let name = match token.kind {
            Kind::String => Arc::from(literal::unquote(self.source(token), token.span.start, self.dialect).text),
            Kind::QuotedName => self.quoted_name(token),
            Kind::Word => {
                let name = self.source(token);
                let message = "the names of an object literal are quoted";
                self.report(Diagnostic::error("syntax", token.span, message).help(format!("write '{name}'")));
                Arc::from(name)
            }
            _ => {
                self.unexpected("a quoted name");
                return Err(Failed);
            }
        };
        self.advance();
        self.expect_sign(":")?;
        Ok((name, self.argument()?))
    }

    /// An expression, or `*` for the whole payload.
    fn argument(&mut self) -> Parse<Expr> {
        if self.at_sign("*") {
            let next = self.peek_second();
            if matches!(next.kind, Kind::Sign("," | ")" | "}")) {
                self.height = 1;
                let span = self.advance().span;
                return Ok(Expr { kind: ExprKind::Star, span });
            }
        }
        self.expr()
    }

    /// A primary that begins with a word.
    fn word(&mut self, token: Token) -> Parse<ExprKind> {
        let source = self.source(token);
        let upper = source.to_ascii_uppercase();
        let opens = matches!(self.peek_second().kind, Kind::Sign("("));
        Ok(match upper.as_str() {
            "TRUE" | "FALSE" => {
                self.advance();
                ExprKind::Literal(Value::Bool(upper == "TRUE"))
            }
            "NULL" => {
                self.advance();
                ExprKind::Literal(Value::Null)
            }
            "CASE" => self.case()?,
            "CAST" if opens => self.cast()?,
            "EXISTS" if opens => {
                self.advance();
                self.advance();
                if !self.at_word("SELECT") {
                    self.unexpected("SELECT after EXISTS (");
                    return Err(Failed);
                }
                let subquery = self.subquery()?;
                self.expect_sign(")")?;
                ExprKind::Exists(Box::new(subquery))
            }
            "SELECT" => {
                let help = "put the nested query in parentheses: (SELECT … FROM path)";
                self.report(
                    Diagnostic::error("syntax", token.span, "a query stands here without parentheses").help(help),
                );
                return Err(Failed);
            }
            _ if !opens && self.is_reserved(&upper) => {
                self.unexpected("a value");
                return Err(Failed);
            }
            "INTERVAL" if matches!(self.peek_second().kind, Kind::String) && self.dialect == Dialect::Native => {
                let help = "time is a number of milliseconds: timestamp() - 60000";
                self.report(Diagnostic::error("interval", token.span, "an interval is not a value").help(help));
                self.advance();
                self.advance();
                ExprKind::Literal(Value::Int(0))
            }
            _ if opens => {
                self.advance();
                self.advance();
                let (args, height) = self.comma_list(")", Self::argument)?;
                self.expect_sign(")")?;
                self.grown(height + 1)?;
                ExprKind::Call { function: Arc::from(source.to_ascii_lowercase()), args }
            }
            _ => {
                self.advance();
                ExprKind::Name(Arc::from(source))
            }
        })
    }

    /// Words that cannot be a value here because something else begins with them.
    fn is_reserved(&mut self, upper: &str) -> bool {
        match upper {
            "FROM" | "WHERE" | "AS" | "AND" | "OR" | "IN" => true,
            "WHEN" | "THEN" | "ELSE" | "END" => self.open_cases > 0,
            "HAVING" | "INTO" | "IS" | "LIKE" | "BETWEEN" => self.dialect == Dialect::Native,
            "GROUP" | "PARTITION" => self.dialect == Dialect::Native && self.at_words(upper, "BY"),
            _ => false,
        }
    }

    fn cast(&mut self) -> Parse<ExprKind> {
        self.advance();
        self.advance();
        let operand = Box::new(self.expr()?);
        let height = self.height;
        self.expect_word("AS")?;
        let (name, span) = self.name("a type: String, Int, Double, Decimal or Boolean")?;
        let native = self.dialect == Dialect::Native;
        let to = match name.to_ascii_lowercase().as_str() {
            "string" | "nvarchar" | "text" | "ntext" | "varchar" => CastType::String,
            "int" | "integer" => CastType::Int,
            "bigint" if native => CastType::Int,
            "double" => CastType::Double,
            "decimal" => CastType::Decimal,
            "bool" | "boolean" => CastType::Boolean,
            other => {
                let types = ["String", "Int", "Double", "Decimal", "Boolean", "Varchar"];
                let help = match crate::suggest::nearest(other, types.iter().copied()) {
                    Some(near) => format!("did you mean {near}?"),
                    None => "types are String, Int, Double, Decimal and Boolean".into(),
                };
                self.report(Diagnostic::error("unknown-type", span, format!("there is no type {name}")).help(help));
                CastType::String
            }
        };
        if matches!(to, CastType::Decimal | CastType::Boolean) {
            self.since_2016(span, "casts to Decimal and Boolean");
        }
        self.expect_sign(")")?;
        self.grown(height + 1)?;
        Ok(ExprKind::Cast { operand, to })
    }

    fn case(&mut self) -> Parse<ExprKind> {
        let case = self.advance();
        self.open_cases += 1;
        let result = self.case_body(case.span);
        self.open_cases -= 1;
        result
    }

    fn case_body(&mut self, case: Span) -> Parse<ExprKind> {
        let mut height = 0;
        let mut part = |parser: &mut Self| {
            let expr = parser.expr();
            height = height.max(parser.height);
            expr
        };
        let operand = if self.at_word("WHEN") { None } else { Some(Box::new(part(self)?)) };
        let mut branches = Vec::new();
        while self.eat_word("WHEN") {
            let when = part(self)?;
            self.expect_word("THEN")?;
            branches.push((when, part(self)?));
        }
        if branches.is_empty() {
            self.unexpected("WHEN … THEN … in this CASE");
            return Err(Failed);
        }
        let otherwise = if self.eat_word("ELSE") { Some(Box::new(part(self)?)) } else { None };
        if !self.eat_word("END") {
            self.unexpected("END");
            if let Some(last) = self.diagnostics.last_mut() {
                last.labels.push((case, "this CASE".into()));
            }
            return Err(Failed);
        }
        self.grown(height + 1)?;
        Ok(ExprKind::Case { operand, branches, otherwise })
    }

    /// `SELECT items FROM path [AS alias] [WHERE expr]`; the parentheses are the caller's.
    fn subquery(&mut self) -> Parse<Subquery> {
        let select = self.advance();
        self.since_2016(select.span, "nested queries");
        let cases = std::mem::take(&mut self.open_cases);
        let result = self.subquery_body();
        self.open_cases = cases;
        result
    }

    fn subquery_body(&mut self) -> Parse<Subquery> {
        let items = self.items()?;
        let mut height = self.height;
        self.expect_word("FROM")?;
        if matches!(self.peek().kind, Kind::String) {
            let span = self.advance().span;
            let help = "write the member that holds the array: (SELECT … FROM readings)";
            let message = "a nested query reads an array or object of the payload, not a topic";
            self.report(Diagnostic::error("subquery-from", span, message).help(help));
            return Err(Failed);
        }
        let source = self.postfix()?;
        height = height.max(self.height);
        let alias = if self.eat_word("AS") {
            Some(self.name("a name for the element")?.0)
        } else {
            let token = self.peek();
            let native_alias = self.dialect == Dialect::Native
                && matches!(token.kind, Kind::Word | Kind::QuotedName)
                && !self.begins_clause(token);
            if native_alias { Some(self.name("a name for the element")?.0) } else { None }
        };
        let filter = if self.eat_word("WHERE") {
            let filter = self.expr()?;
            height = height.max(self.height);
            Some(filter)
        } else {
            None
        };
        self.grown(height + 1)?;
        Ok(Subquery { items, source, alias, filter })
    }
}
