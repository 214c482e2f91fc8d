//! Tree to canonical text: parsing it again gives the same tree. White space, comments, the case of keywords and
//! superfluous parentheses are gone, so that equal texts mean equal statements.

use std::fmt::Write;

use crate::ast::{After, BinaryOp, CastType, Dialect, Expr, ExprKind, Item, Items, Select, Subquery, UnaryOp, Window};
use crate::ast::{Template, TemplatePart};
use crate::value::Value;

use super::lexer::{continues_word, starts_word};
use super::literal::interval_text;

/// An expression as text.
pub fn print_expr(expr: &Expr, dialect: Dialect) -> String {
    let mut printer = Printer { out: String::new(), dialect };
    printer.expr(expr, 0);
    printer.out
}

/// A SELECT list as text, without the word SELECT.
pub fn print_items(items: &Items, dialect: Dialect) -> String {
    let mut printer = Printer { out: String::new(), dialect };
    printer.items(items);
    printer.out
}

/// A statement's query as text.
pub fn print_select(select: &Select, dialect: Dialect) -> String {
    let mut printer = Printer { out: String::new(), dialect };
    printer.select(select);
    printer.out
}

/// A template as text, without quotes.
pub fn print_template(template: &Template, dialect: Dialect) -> String {
    let mut out = String::new();
    for part in &template.parts {
        match part {
            TemplatePart::Text(text) => out.push_str(text),
            TemplatePart::Expr(expr) => {
                out.push_str("${");
                out.push_str(&print_expr(expr, dialect));
                out.push('}');
            }
        }
    }
    out
}

const COMPARE: u8 = 4;
const SUM: u8 = 5;
const SIGN: u8 = 7;
const POSTFIX: u8 = 8;

/// Words that a native name must be quoted to be.
const KEYWORDS: [&str; 48] = [
    "ALL",
    "AFTER",
    "AND",
    "AS",
    "BETWEEN",
    "BY",
    "CASE",
    "CAST",
    "CREATE",
    "DISTINCT",
    "DROP",
    "ELSE",
    "EMIT",
    "END",
    "EXISTS",
    "FALSE",
    "FROM",
    "GROUP",
    "HAVING",
    "IN",
    "INTERVAL",
    "INTO",
    "IS",
    "JOIN",
    "LATE",
    "LATENESS",
    "LEFT",
    "LIKE",
    "LIMIT",
    "NOT",
    "NULL",
    "ON",
    "OR",
    "ORDER",
    "PARTITION",
    "PRIMARY",
    "INDEX",
    "QOS",
    "RETAIN",
    "SECRET",
    "SELECT",
    "SET",
    "THEN",
    "TRUE",
    "UNLESS",
    "VALUE",
    "WHEN",
    "WHERE",
];

/// How tightly the outermost operator of an expression binds.
fn level(expr: &Expr) -> u8 {
    match &expr.kind {
        ExprKind::Binary { op, .. } => binary_level(*op),
        ExprKind::Unary { op: UnaryOp::Not, .. } => 3,
        ExprKind::Unary { op: UnaryOp::Neg, .. } => SIGN,
        ExprKind::IsNull { .. }
        | ExprKind::IsDistinct { .. }
        | ExprKind::Like { .. }
        | ExprKind::InList { .. }
        | ExprKind::Between { .. } => COMPARE,
        _ => POSTFIX,
    }
}

fn binary_level(op: BinaryOp) -> u8 {
    match op {
        BinaryOp::Or => 1,
        BinaryOp::And => 2,
        BinaryOp::Eq | BinaryOp::Ne | BinaryOp::Lt | BinaryOp::Le | BinaryOp::Gt | BinaryOp::Ge | BinaryOp::In => {
            COMPARE
        }
        BinaryOp::Add | BinaryOp::Sub | BinaryOp::Concat => SUM,
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::Rem => 6,
    }
}

fn sign(op: BinaryOp) -> &'static str {
    match op {
        BinaryOp::Or => "OR",
        BinaryOp::And => "AND",
        BinaryOp::Eq => "=",
        BinaryOp::Ne => "<>",
        BinaryOp::Lt => "<",
        BinaryOp::Le => "<=",
        BinaryOp::Gt => ">",
        BinaryOp::Ge => ">=",
        BinaryOp::In => "IN",
        BinaryOp::Add => "+",
        BinaryOp::Sub => "-",
        BinaryOp::Mul => "*",
        BinaryOp::Div => "/",
        BinaryOp::Rem => "%",
        BinaryOp::Concat => "||",
    }
}

fn is_word(name: &str) -> bool {
    name.starts_with(starts_word) && name.chars().all(continues_word)
}

pub(super) struct Printer {
    pub out: String,
    pub dialect: Dialect,
}

impl Printer {
    pub fn push(&mut self, text: &str) {
        self.out.push_str(text);
    }

    /// A name where a keyword could stand.
    pub fn name(&mut self, name: &str) {
        let keyword = || KEYWORDS.iter().any(|keyword| keyword.eq_ignore_ascii_case(name));
        if self.dialect == Dialect::Native && (!is_word(name) || keyword()) {
            self.quoted_name(name);
        } else {
            self.push(name);
        }
    }

    /// A name after a point: keywords are names there.
    fn member_name(&mut self, name: &str) {
        if self.dialect == Dialect::Native && !is_word(name) { self.quoted_name(name) } else { self.push(name) }
    }

    fn quoted_name(&mut self, name: &str) {
        self.out.push('"');
        self.out.push_str(&name.replace('"', "\"\""));
        self.out.push('"');
    }

    pub fn text(&mut self, text: &str) {
        let quoted = text.replace('\'', "''");
        self.out.push('\'');
        self.out.push_str(&if self.dialect == Dialect::Native { quoted } else { quoted.replace('\\', "\\\\") });
        self.out.push('\'');
    }

    /// The expression, in parentheses if it binds more loosely than `min`.
    fn expr(&mut self, expr: &Expr, min: u8) {
        if level(expr) < min {
            self.push("(");
            self.expr(expr, 0);
            self.push(")");
            return;
        }
        match &expr.kind {
            ExprKind::Literal(value) => self.value(value),
            ExprKind::Star => self.push("*"),
            ExprKind::Name(name) => self.name(name),
            ExprKind::Variable(name) => {
                self.push("@");
                self.push(name);
            }
            ExprKind::Slot(slot) => {
                let _ = write!(self.out, "#{slot}");
            }
            ExprKind::Member { of, name } => {
                self.owner(of);
                self.push(".");
                self.member_name(name);
            }
            ExprKind::Index { of, index } => {
                self.owner(of);
                self.push("[");
                self.expr(index, 0);
                self.push("]");
            }
            ExprKind::Unary { op: UnaryOp::Neg, operand } => {
                self.push("-");
                self.expr(operand, POSTFIX);
            }
            ExprKind::Unary { op: UnaryOp::Not, operand } => {
                self.push("NOT ");
                self.expr(operand, 3);
            }
            ExprKind::Binary { op, left, right } => {
                let level = binary_level(*op);
                self.expr(left, level);
                self.push(" ");
                self.push(sign(*op));
                self.push(" ");
                self.expr(right, level + 1);
            }
            ExprKind::IsNull { operand, negated } => {
                self.expr(operand, COMPARE);
                self.push(if *negated { " IS NOT NULL" } else { " IS NULL" });
            }
            ExprKind::IsDistinct { left, right, negated } => {
                self.expr(left, COMPARE);
                self.push(if *negated { " IS NOT DISTINCT FROM " } else { " IS DISTINCT FROM " });
                self.expr(right, SUM);
            }
            ExprKind::Like { value, pattern, negated } => {
                self.expr(value, COMPARE);
                self.push(if *negated { " NOT LIKE " } else { " LIKE " });
                self.expr(pattern, SUM);
            }
            ExprKind::InList { value, list, negated } => {
                self.expr(value, COMPARE);
                self.push(if *negated { " NOT IN (" } else { " IN (" });
                self.list(list);
                self.push(")");
            }
            ExprKind::Between { value, low, high, negated } => {
                self.expr(value, COMPARE);
                self.push(if *negated { " NOT BETWEEN " } else { " BETWEEN " });
                self.expr(low, SUM);
                self.push(" AND ");
                self.expr(high, SUM);
            }
            ExprKind::Call { function, args } => {
                self.push(function);
                self.push("(");
                self.list(args);
                self.push(")");
            }
            ExprKind::Cast { operand, to } => {
                self.push("CAST(");
                self.expr(operand, 0);
                self.push(match to {
                    CastType::String => " AS String)",
                    CastType::Int => " AS Int)",
                    CastType::Double => " AS Double)",
                    CastType::Decimal => " AS Decimal)",
                    CastType::Boolean => " AS Boolean)",
                });
            }
            ExprKind::Case { operand, branches, otherwise } => {
                self.case(operand.as_deref(), branches, otherwise.as_deref())
            }
            ExprKind::Object(members) => self.object(members),
            ExprKind::Array(items) => {
                self.push("[");
                self.list(items);
                self.push("]");
            }
            ExprKind::Subquery(subquery) => self.subquery(subquery),
            ExprKind::Exists(subquery) => {
                self.push("EXISTS ");
                self.subquery(subquery);
            }
        }
    }

    /// What a member or index is taken of. A number needs parentheses: its point would be taken for a fraction.
    fn owner(&mut self, of: &Expr) {
        if matches!(of.kind, ExprKind::Literal(Value::Int(_) | Value::Decimal(_))) {
            self.push("(");
            self.expr(of, 0);
            self.push(")");
        } else {
            self.expr(of, POSTFIX);
        }
    }

    fn list(&mut self, exprs: &[Expr]) {
        for (index, expr) in exprs.iter().enumerate() {
            if index > 0 {
                self.push(", ");
            }
            self.expr(expr, 0);
        }
    }

    fn object(&mut self, members: &[(std::sync::Arc<str>, Expr)]) {
        self.push("{");
        for (index, (name, value)) in members.iter().enumerate() {
            if index > 0 {
                self.push(", ");
            }
            self.text(name);
            self.push(": ");
            self.expr(value, 0);
        }
        self.push("}");
    }

    fn case(&mut self, operand: Option<&Expr>, branches: &[(Expr, Expr)], otherwise: Option<&Expr>) {
        self.push("CASE");
        if let Some(operand) = operand {
            self.push(" ");
            self.expr(operand, 0);
        }
        for (when, then) in branches {
            self.push(" WHEN ");
            self.expr(when, 0);
            self.push(" THEN ");
            self.expr(then, 0);
        }
        if let Some(otherwise) = otherwise {
            self.push(" ELSE ");
            self.expr(otherwise, 0);
        }
        self.push(" END");
    }

    fn subquery(&mut self, subquery: &Subquery) {
        self.push("(SELECT ");
        self.items(&subquery.items);
        self.push(" FROM ");
        self.owner(&subquery.source);
        if let Some(alias) = &subquery.alias {
            self.push(" AS ");
            self.name(alias);
        }
        if let Some(filter) = &subquery.filter {
            self.push(" WHERE ");
            self.expr(filter, 0);
        }
        self.push(")");
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::Null => self.push("NULL"),
            Value::Bool(true) => self.push("TRUE"),
            Value::Bool(false) => self.push("FALSE"),
            Value::Int(int) => {
                let _ = write!(self.out, "{int}");
            }
            Value::Decimal(decimal) => self.decimal(decimal.mantissa, decimal.scale),
            Value::String(text) => self.text(text),
            // The parser makes no literals of these; if somebody does, this is how they look.
            Value::Undefined => self.push("UNDEFINED"),
            Value::Array(_) | Value::Object(_) => self.push("…"),
        }
    }

    /// A Decimal in a spelling that keeps its scale.
    fn decimal(&mut self, mantissa: i128, scale: i32) {
        if !(1..=40).contains(&scale) {
            let _ = write!(self.out, "{mantissa}E{}", -i64::from(scale));
            return;
        }
        let places = usize::try_from(scale).unwrap_or_default();
        let digits = format!("{:0>width$}", mantissa.unsigned_abs(), width = places + 1);
        let (whole, fraction) = digits.split_at(digits.len() - places);
        let _ = write!(self.out, "{}{whole}.{fraction}", if mantissa < 0 { "-" } else { "" });
    }

    fn items(&mut self, items: &Items) {
        match items {
            Items::Value(expr) => {
                self.push("VALUE ");
                // A sign or NOT after VALUE would make it a member called value.
                self.expr(expr, POSTFIX);
            }
            Items::List(items) => {
                let start = self.out.len();
                for (index, item) in items.iter().enumerate() {
                    if index > 0 {
                        self.push(", ");
                    }
                    self.item(item);
                }
                self.guard_first_word(start);
            }
        }
    }

    /// A first item that begins with a member called value, distinct or all must not be taken for the keyword.
    fn guard_first_word(&mut self, start: usize) {
        let first: String =
            self.out.get(start..).unwrap_or_default().chars().take_while(|&c| continues_word(c)).collect();
        if ["value", "distinct", "all"].iter().any(|word| first.eq_ignore_ascii_case(word)) {
            self.out.replace_range(start..start + first.len(), &format!("({first})"));
        }
    }

    fn item(&mut self, item: &Item) {
        self.expr(&item.expr, 0);
        // `a.from` is called `from`, which AWS rules cannot write after AS.
        if self.dialect != Dialect::Native
            && let (ExprKind::Member { name, .. }, Some([alias])) = (&item.expr.kind, item.alias.as_deref())
            && name == alias
        {
            return;
        }
        for (index, name) in item.alias.iter().flatten().enumerate() {
            if index == 0 {
                self.push(" AS ");
                self.name(name);
            } else {
                self.push(".");
                self.member_name(name);
            }
        }
    }

    pub fn select(&mut self, select: &Select) {
        for (index, (name, value)) in select.set.iter().enumerate() {
            self.push(if index == 0 { "SET @" } else { ", @" });
            self.push(name);
            self.push(" = ");
            self.expr(value, 0);
        }
        if !select.set.is_empty() {
            self.push(" ");
        }
        self.push("SELECT ");
        self.items(&select.items);
        if select.presence {
            self.push(" FROM presence");
        } else if let Some((from, _)) = &select.from {
            self.push(" FROM ");
            self.text(from);
        }
        if let Some(filter) = &select.filter {
            self.push(" WHERE ");
            self.expr(filter, 0);
        }
        if select.window.is_some() || !select.group_by.is_empty() {
            self.push(" GROUP BY ");
            self.list(&select.group_by);
            if let Some(Window::Tumble { width_us }) = select.window {
                if !select.group_by.is_empty() {
                    self.push(", ");
                }
                let _ = write!(self.out, "tumble(INTERVAL '{}')", interval_text(width_us));
            }
        }
        if let Some(having) = &select.having {
            self.push(" HAVING ");
            self.expr(having, 0);
        }
        if let Some(absence) = &select.absence {
            self.push(" AFTER ");
            match &absence.after {
                After::Interval(us) => {
                    let _ = write!(self.out, "INTERVAL '{}'", interval_text(*us));
                }
                After::Seconds(expr) => self.expr(expr, 0),
            }
            self.push(" UNLESS ");
            self.expr(&absence.unless, 0);
            self.push(" PARTITION BY ");
            self.list(&absence.keys);
        }
    }
}
