//! Expressions, by precedence climbing. From loosest to tightest: OR, AND, NOT, comparisons, sums, products, sign,
//! member access.

use std::sync::Arc;

use crate::ast::{BinaryOp, Dialect, Expr, ExprKind, Span, UnaryOp};
use crate::diagnostic::Diagnostic;

use super::lexer::{Kind, Token};
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
}
