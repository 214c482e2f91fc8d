//! Expressions, by precedence climbing. From loosest to tightest: OR, AND, NOT, comparisons, sums, products, sign,
//! member access.

use std::sync::Arc;

use crate::ast::{BinaryOp, CastType, Dialect, Expr, ExprKind, Span, Subquery, UnaryOp};
use crate::diagnostic::Diagnostic;
use crate::value::Value;

use super::lexer::{Kind, Token};
use super::literal;
use super::parser::{Failed, Parse, Parser};

const OR: u8 = 1;
const AND: u8 = 2;
const NOT: u8 = 3;
const COMPARE: u8 = 4;
const SUM: u8 = 5;
const PRODUCT: u8 = 6;

/// What may follow a left operand.
enum Infix {
    Binary(BinaryOp, u8),
    In { negated: bool },
    Like { negated: bool },
    Between { negated: bool },
    Is,
}

impl Parser<'_> {
    /// An expression.
    pub fn expr(&mut self) -> Parse<Expr> {
        self.binary(0)
    }

    fn binary(&mut self, min: u8) -> Parse<Expr> {
        let mut left = self.prefix(min)?;
        while let Some(infix) = self.infix(min) {
            let height = self.height;
            left = self.combine(left, &infix)?;
            let height = height.max(self.height) + 1;
            self.grown(height)?;
        }
        Ok(left)
    }

    /// The operator at the current token, if it binds at least as tightly as `min`. Nothing is taken.
    fn infix(&mut self, min: u8) -> Option<Infix> {
        let token = self.peek();
        let (infix, precedence) = match token.kind {
            Kind::Sign(sign) => {
                let (op, precedence) = match sign {
                    "=" => (BinaryOp::Eq, COMPARE),
                    "<>" | "!=" => (BinaryOp::Ne, COMPARE),
                    "<" => (BinaryOp::Lt, COMPARE),
                    "<=" => (BinaryOp::Le, COMPARE),
                    ">" => (BinaryOp::Gt, COMPARE),
                    ">=" => (BinaryOp::Ge, COMPARE),
                    "+" => (BinaryOp::Add, SUM),
                    "-" => (BinaryOp::Sub, SUM),
                    "||" => (BinaryOp::Concat, SUM),
                    "*" => (BinaryOp::Mul, PRODUCT),
                    "/" => (BinaryOp::Div, PRODUCT),
                    "%" => (BinaryOp::Rem, PRODUCT),
                    _ => return None,
                };
                (Infix::Binary(op, precedence), precedence)
            }
            Kind::Word => self.infix_word(token)?,
            _ => return None,
        };
        (precedence >= min).then_some(infix)
    }

    fn infix_word(&mut self, token: Token) -> Option<(Infix, u8)> {
        let is = |parser: &Self, token, word| parser.is_word(token, word);
        Some(if is(self, token, "OR") {
            (Infix::Binary(BinaryOp::Or, OR), OR)
        } else if is(self, token, "AND") {
            (Infix::Binary(BinaryOp::And, AND), AND)
        } else if is(self, token, "IN") {
            (Infix::In { negated: false }, COMPARE)
        } else if is(self, token, "LIKE") {
            (Infix::Like { negated: false }, COMPARE)
        } else if is(self, token, "BETWEEN") {
            (Infix::Between { negated: false }, COMPARE)
        } else if is(self, token, "IS") {
            (Infix::Is, COMPARE)
        } else if is(self, token, "NOT") {
            let next = self.peek_second();
            if is(self, next, "IN") {
                (Infix::In { negated: true }, COMPARE)
            } else if is(self, next, "LIKE") {
                (Infix::Like { negated: true }, COMPARE)
            } else if is(self, next, "BETWEEN") {
                (Infix::Between { negated: true }, COMPARE)
            } else {
                return None;
            }
        } else {
            return None;
        })
    }

    /// Takes the operator and what stands right of it.
    fn combine(&mut self, left: Expr, infix: &Infix) -> Parse<Expr> {
        let operator = self.advance();
        let start = left.span.start;
        let kind = match *infix {
            Infix::Binary(op, precedence) => {
                if op == BinaryOp::Concat {
                    self.native_only(operator.span, "`||`", "use concat(a, b)");
                }
                let right = self.binary(precedence + 1)?;
                if precedence == COMPARE {
                    self.warn_of_quoted_name(&left, &right);
                }
                ExprKind::Binary { op, left: Box::new(left), right: Box::new(right) }
            }
            Infix::In { negated } => {
                if negated {
                    self.native_only(operator.span, "NOT IN", "write NOT x IN […]");
                    self.advance();
                }
                self.in_right(left, negated)?
            }
            Infix::Like { negated } => {
                self.native_only(operator.span, "LIKE", "use regexp_matches, startswith, endswith or indexof");
                if negated {
                    self.advance();
                }
                let pattern = Box::new(self.binary(SUM)?);
                ExprKind::Like { value: Box::new(left), pattern, negated }
            }
            Infix::Between { negated } => {
                self.native_only(operator.span, "BETWEEN", "write x >= a AND x <= b");
                if negated {
                    self.advance();
                }
                let low = self.binary(SUM)?;
                let height = self.height;
                self.expect_word("AND")?;
                let high = self.binary(SUM)?;
                self.height = self.height.max(height);
                ExprKind::Between { value: Box::new(left), low: Box::new(low), high: Box::new(high), negated }
            }
            Infix::Is => {
                self.native_only(operator.span, "IS", "use isNull(x) or isUndefined(x)");
                let negated = self.eat_word("NOT");
                if self.eat_word("NULL") {
                    ExprKind::IsNull { operand: Box::new(left), negated }
                } else if self.eat_word("DISTINCT") {
                    self.expect_word("FROM")?;
                    let right = Box::new(self.binary(SUM)?);
                    ExprKind::IsDistinct { left: Box::new(left), right, negated }
                } else {
                    self.unexpected("NULL or DISTINCT FROM after IS");
                    return Err(Failed);
                }
            }
        };
        Ok(Expr { kind, span: Span { start, end: self.last_end } })
    }

    /// The right side of IN: a list in parentheses (native), a nested query, or an array.
    fn in_right(&mut self, left: Expr, negated: bool) -> Parse<ExprKind> {
        let start = left.span.start;
        let select_follows = {
            let next = self.peek_second();
            self.is_word(next, "SELECT")
        };
        if self.at_sign("(") && !select_follows && self.dialect == Dialect::Native {
            self.advance();
            let (list, height) = self.comma_list(")", Self::expr)?;
            self.expect_sign(")")?;
            if list.is_empty() {
                let span = Span { start, end: self.last_end };
                self.report(Diagnostic::error("syntax", span, "the list after IN is empty"));
            }
            self.height = height;
            return Ok(ExprKind::InList { value: Box::new(left), list, negated });
        }
        let parenthesis = self.at_sign("(");
        let right = match self.binary(SUM) {
            Ok(right) => right,
            Err(failed) => {
                if let (true, Some(last)) = (parenthesis && !select_follows, self.diagnostics.last_mut()) {
                    last.help.get_or_insert_with(|| "a list is written in square brackets: x IN [1, 2]".into());
                }
                return Err(failed);
            }
        };
        self.warn_of_quoted_name(&left, &right);
        let end = right.span.end;
        let kind = ExprKind::Binary { op: BinaryOp::In, left: Box::new(left), right: Box::new(right) };
        if !negated {
            return Ok(kind);
        }
        self.height += 1;
        let operand = Box::new(Expr { kind, span: Span { start, end } });
        Ok(ExprKind::Unary { op: UnaryOp::Not, operand })
    }

    /// Reports a construct of native files in an AWS rule; parsing goes on as if it were allowed.
    fn native_only(&mut self, span: Span, what: &str, instead: &str) {
        if self.dialect != Dialect::Native {
            let message = format!("{what} is part of Hedgerow's own rule files (.sql), not of AWS rules");
            self.report(Diagnostic::error("dialect", span, message).help(instead));
        }
    }

    /// `x = "word"` compares with a member called word; most people mean the text.
    fn warn_of_quoted_name(&mut self, left: &Expr, right: &Expr) {
        if self.dialect != Dialect::Native {
            return;
        }
        for side in [left, right] {
            let ExprKind::Name(name) = &side.kind else { continue };
            if self.slice(side.span).starts_with('"') {
                let message = format!("\"{name}\" is the member called {name}, not a text");
                self.report(
                    Diagnostic::warning("quoted-name", side.span, message).help(format!("for the text write '{name}'")),
                );
            }
        }
    }

    fn prefix(&mut self, min: u8) -> Parse<Expr> {
        let start = self.peek().span.start;
        let (op, operand) = if self.at_sign("-") {
            self.advance();
            (UnaryOp::Neg, self.nested(|parser| parser.prefix(PRODUCT + 1))?)
        } else if self.at_word("NOT") {
            let not = self.advance().span;
            if min > NOT {
                self.report(
                    Diagnostic::error("syntax", not, "NOT binds more loosely than what stands before it")
                        .help("put NOT and its operand in parentheses"),
                );
            }
            (UnaryOp::Not, self.nested(|parser| parser.binary(NOT))?)
        } else if self.at_sign("+") {
            let plus = self.advance().span;
            self.report(Diagnostic::error("syntax", plus, "a number has no sign `+`").help("leave it out"));
            return self.nested(|parser| parser.prefix(PRODUCT + 1));
        } else {
            return self.postfix();
        };
        let height = self.height + 1;
        self.grown(height)?;
        let kind = ExprKind::Unary { op, operand: Box::new(operand) };
        Ok(Expr { kind, span: Span { start, end: self.last_end } })
    }

    /// A primary and the member accesses after it, one level deeper.
    pub fn postfix(&mut self) -> Parse<Expr> {
        self.nested(Self::accesses)
    }

    fn accesses(&mut self) -> Parse<Expr> {
        let mut expr = self.primary()?;
        loop {
            let start = expr.span.start;
            let kind = if self.eat_sign(".") {
                let of = Box::new(expr);
                let token = self.peek();
                let name = match token.kind {
                    Kind::Word => Arc::from(self.source(token)),
                    Kind::QuotedName => self.quoted_name(token),
                    Kind::Number => {
                        let number = self.source(token).to_owned();
                        let object = self.slice(of.span).to_owned();
                        let help = format!("write {object}[{number}] or get({object}, {number})");
                        let message = "a member after a point is a name, not a number";
                        self.report(Diagnostic::error("syntax", token.span, message).help(help));
                        Arc::from(number)
                    }
                    _ => {
                        self.unexpected("a member's name after `.`");
                        return Err(Failed);
                    }
                };
                self.advance();
                ExprKind::Member { of, name }
            } else if self.eat_sign("[") {
                let height = self.height;
                let index = Box::new(self.expr()?);
                self.height = self.height.max(height);
                self.expect_sign("]")?;
                ExprKind::Index { of: Box::new(expr), index }
            } else {
                return Ok(expr);
            };
            let height = self.height + 1;
            self.grown(height)?;
            expr = Expr { kind, span: Span { start, end: self.last_end } };
        }
    }

    fn primary(&mut self) -> Parse<Expr> {
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
    fn comma_list<T>(&mut self, close: &str, mut item: impl FnMut(&mut Self) -> Parse<T>) -> Parse<(Vec<T>, u32)> {
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
