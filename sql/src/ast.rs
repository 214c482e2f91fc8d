//! The syntax tree: what a statement says, before anything is known about types or messages.

use std::sync::Arc;

use crate::value::Value;

/// A range of bytes of the source text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Span {
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

/// Which rules of the language apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// AWS documents without `awsIotSqlVersion`, or with `2015-10-08`.
    Aws2015,
    /// AWS documents with `2016-03-23` or `beta`.
    Aws2016,
    /// Hedgerow's own `.sql` files: 2016 types, three-valued AND/OR, decimal `/`, `"…"` is a name.
    Native,
}

/// An expression and where it stands. Equality ignores spans.
#[derive(Clone, Debug)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Where it stands.
    pub span: Span,
}

impl PartialEq for Expr {
    fn eq(&self, other: &Self) -> bool {
        self.kind == other.kind
    }
}

/// The forms of an expression.
#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    /// A literal number, string, boolean or `NULL`.
    Literal(Value),
    /// `*`: the whole payload (only as an argument, an object member, or after `VALUE`).
    Star,
    /// A member of the current scope: the payload, or the element of a nested query.
    Name(Arc<str>),
    /// `@name`, set by `SET`.
    Variable(Arc<str>),
    /// A value computed outside the expression: group keys and aggregates of a windowed rule, by index.
    Slot(usize),
    /// `of.name`.
    Member {
        /// The object.
        of: Box<Expr>,
        /// The member's name.
        name: Arc<str>,
    },
    /// `of[index]`, the same as `get(of, index)`.
    Index {
        /// The array, string or object.
        of: Box<Expr>,
        /// Position or name.
        index: Box<Expr>,
    },
    /// `-x`, `NOT x`.
    Unary {
        /// The operator.
        op: UnaryOp,
        /// Its operand.
        operand: Box<Expr>,
    },
    /// `left op right`.
    Binary {
        /// The operator.
        op: BinaryOp,
        /// Left operand.
        left: Box<Expr>,
        /// Right operand.
        right: Box<Expr>,
    },
    /// `x IS [NOT] NULL`: true for Null and Undefined. Native only.
    IsNull {
        /// The operand.
        operand: Box<Expr>,
        /// With NOT.
        negated: bool,
    },
    /// `a IS [NOT] DISTINCT FROM b`. Native only.
    IsDistinct {
        /// Left operand.
        left: Box<Expr>,
        /// Right operand.
        right: Box<Expr>,
        /// With NOT.
        negated: bool,
    },
    /// `x [NOT] LIKE p`. Native only.
    Like {
        /// The text.
        value: Box<Expr>,
        /// The pattern: `%`, `_`, backslash escapes.
        pattern: Box<Expr>,
        /// With NOT.
        negated: bool,
    },
    /// `x [NOT] IN (a, b, …)`. Native only; `x IN array` is a [`BinaryOp::In`].
    InList {
        /// The value looked for.
        value: Box<Expr>,
        /// The list.
        list: Vec<Expr>,
        /// With NOT.
        negated: bool,
    },
    /// `x [NOT] BETWEEN a AND b`. Native only.
    Between {
        /// The value.
        value: Box<Expr>,
        /// Lower bound, included.
        low: Box<Expr>,
        /// Upper bound, included.
        high: Box<Expr>,
        /// With NOT.
        negated: bool,
    },
    /// `function(args)`; the name is in lower case.
    Call {
        /// The function's name, in lower case.
        function: Arc<str>,
        /// Its arguments.
        args: Vec<Expr>,
    },
    /// `CAST(x AS type)`.
    Cast {
        /// The value.
        operand: Box<Expr>,
        /// The type.
        to: CastType,
    },
    /// `CASE [x] WHEN a THEN b … [ELSE c] END`.
    Case {
        /// The value of the simple form; the searched form has none.
        operand: Option<Box<Expr>>,
        /// WHEN and THEN, in order.
        branches: Vec<(Expr, Expr)>,
        /// ELSE.
        otherwise: Option<Box<Expr>>,
    },
    /// `{'name': x, …}`.
    Object(Vec<(Arc<str>, Expr)>),
    /// `[x, …]`.
    Array(Vec<Expr>),
    /// `(SELECT … FROM path …)`.
    Subquery(Box<Subquery>),
    /// `EXISTS (SELECT … FROM path …)`.
    Exists(Box<Subquery>),
}

/// Prefix operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnaryOp {
    /// `-`
    Neg,
    /// `NOT`
    Not,
}

/// Infix operators.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is its own sign")]
pub enum BinaryOp {
    Or,
    And,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    In,
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    Concat,
}

/// The targets of CAST.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is its own name")]
pub enum CastType {
    String,
    Int,
    /// `Double`: always a Decimal, in every version.
    Double,
    Decimal,
    Boolean,
}

/// A nested query over an array or object.
#[derive(Clone, Debug, PartialEq)]
pub struct Subquery {
    /// What it selects.
    pub items: Items,
    /// The expression it ranges over.
    pub source: Expr,
    /// The name of the element itself.
    pub alias: Option<Arc<str>>,
    /// WHERE.
    pub filter: Option<Expr>,
}

/// The SELECT list.
#[derive(Clone, Debug, PartialEq)]
pub enum Items {
    /// `SELECT VALUE expr` (`*` is [`ExprKind::Star`]).
    Value(Expr),
    /// `SELECT item, …`.
    List(Vec<Item>),
}

/// One item of a SELECT list.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// The expression; `*` is [`ExprKind::Star`].
    pub expr: Expr,
    /// The name it gets, a path when dotted. `None` only for a bare `*` (its members are merged).
    pub alias: Option<Vec<Arc<str>>>,
}

/// A statement: everything of a rule but where its rows go. Equality ignores spans.
#[derive(Clone, Debug)]
pub struct Select {
    /// SET variables in order.
    pub set: Vec<(Arc<str>, Expr)>,
    /// The SELECT list.
    pub items: Items,
    /// The topic filter's text, absent only in rules reached by basic ingest.
    pub from: Option<(Arc<str>, Span)>,
    /// FROM is the stream `presence`, and `from` the filter that it stands for.
    pub presence: bool,
    /// WHERE.
    pub filter: Option<Expr>,
    /// GROUP BY without the window.
    pub group_by: Vec<Expr>,
    /// The window of GROUP BY.
    pub window: Option<Window>,
    /// HAVING.
    pub having: Option<Expr>,
    /// AFTER … UNLESS … PARTITION BY.
    pub absence: Option<Box<Absence>>,
}

/// The topics of the stream `presence`.
pub const PRESENCE_FILTER: &str = "$aws/events/presence/#";

/// `AFTER d UNLESS c PARTITION BY k`: a row is emitted only if nothing disarms its key in time. All of it reads the raw
/// message. Equality ignores spans.
#[derive(Clone, Debug)]
pub struct Absence {
    /// How long the key stays armed.
    pub after: After,
    /// What makes a key idle.
    pub unless: Expr,
    /// What the timers are told apart by.
    pub keys: Vec<Expr>,
    /// Where the clause stands.
    pub span: Span,
}

impl PartialEq for Absence {
    fn eq(&self, other: &Self) -> bool {
        self.after == other.after && self.unless == other.unless && self.keys == other.keys
    }
}

/// The time between arming and the deadline.
#[derive(Clone, Debug, PartialEq)]
pub enum After {
    /// `INTERVAL '…'`, in microseconds.
    Interval(u64),
    /// Seconds, read from the message that arms.
    Seconds(Expr),
}

impl After {
    /// The expression, if it is one.
    pub fn expr(&self) -> Option<&Expr> {
        match self {
            Self::Interval(_) => None,
            Self::Seconds(expr) => Some(expr),
        }
    }
}

impl Absence {
    /// Its expressions.
    pub fn exprs(&self) -> impl Iterator<Item = &Expr> {
        self.after.expr().into_iter().chain([&self.unless]).chain(&self.keys)
    }

    /// The same, to change them.
    pub fn exprs_mut(&mut self) -> impl Iterator<Item = &mut Expr> {
        let after = match &mut self.after {
            After::Interval(_) => None,
            After::Seconds(expr) => Some(expr),
        };
        after.into_iter().chain([&mut self.unless]).chain(&mut self.keys)
    }
}

impl PartialEq for Select {
    fn eq(&self, other: &Self) -> bool {
        let filter = |select: &Self| select.from.as_ref().map(|(filter, _)| filter.clone());
        self.set == other.set
            && self.items == other.items
            && filter(self) == filter(other)
            && self.presence == other.presence
            && self.filter == other.filter
            && self.group_by == other.group_by
            && self.window == other.window
            && self.having == other.having
            && self.absence == other.absence
    }
}

/// A window over log time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// `tumble(INTERVAL …)`.
    Tumble {
        /// Width in microseconds.
        width_us: u64,
    },
}

/// A text with `${expr}` parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Template {
    /// Parts in order.
    pub parts: Vec<TemplatePart>,
}

/// A part of a template.
#[derive(Clone, Debug, PartialEq)]
pub enum TemplatePart {
    /// Literal text.
    Text(Arc<str>),
    /// `${expr}`.
    Expr(Expr),
}

impl Expr {
    /// Calls `visit` with each expression directly inside this one, in the order of the text; a nested query's parts
    /// are inside it as well.
    pub fn for_each_child<'a>(&'a self, mut visit: impl FnMut(&'a Expr)) {
        match &self.kind {
            ExprKind::Literal(_) | ExprKind::Star | ExprKind::Name(_) | ExprKind::Variable(_) | ExprKind::Slot(_) => {}
            ExprKind::Member { of, .. } => visit(of),
            ExprKind::Index { of, index } => {
                visit(of);
                visit(index);
            }
            ExprKind::Unary { operand, .. } | ExprKind::IsNull { operand, .. } | ExprKind::Cast { operand, .. } => {
                visit(operand);
            }
            ExprKind::Binary { left, right, .. } | ExprKind::IsDistinct { left, right, .. } => {
                visit(left);
                visit(right);
            }
            ExprKind::Like { value, pattern, .. } => {
                visit(value);
                visit(pattern);
            }
            ExprKind::InList { value, list, .. } => {
                visit(value);
                list.iter().for_each(visit);
            }
            ExprKind::Between { value, low, high, .. } => {
                visit(value);
                visit(low);
                visit(high);
            }
            ExprKind::Call { args, .. } | ExprKind::Array(args) => args.iter().for_each(visit),
            ExprKind::Case { operand, branches, otherwise } => {
                operand.iter().for_each(|expr| visit(expr));
                for (when, then) in branches {
                    visit(when);
                    visit(then);
                }
                otherwise.iter().for_each(|expr| visit(expr));
            }
            ExprKind::Object(members) => members.iter().for_each(|(_, value)| visit(value)),
            ExprKind::Subquery(subquery) | ExprKind::Exists(subquery) => {
                subquery.items.exprs().for_each(&mut visit);
                visit(&subquery.source);
                subquery.filter.iter().for_each(visit);
            }
        }
    }

    /// The same, to change them.
    pub fn for_each_child_mut(&mut self, mut visit: impl FnMut(&mut Expr)) {
        match &mut self.kind {
            ExprKind::Literal(_) | ExprKind::Star | ExprKind::Name(_) | ExprKind::Variable(_) | ExprKind::Slot(_) => {}
            ExprKind::Member { of, .. } => visit(of),
            ExprKind::Index { of, index } => {
                visit(of);
                visit(index);
            }
            ExprKind::Unary { operand, .. } | ExprKind::IsNull { operand, .. } | ExprKind::Cast { operand, .. } => {
                visit(operand);
            }
            ExprKind::Binary { left, right, .. } | ExprKind::IsDistinct { left, right, .. } => {
                visit(left);
                visit(right);
            }
            ExprKind::Like { value, pattern, .. } => {
                visit(value);
                visit(pattern);
            }
            ExprKind::InList { value, list, .. } => {
                visit(value);
                list.iter_mut().for_each(visit);
            }
            ExprKind::Between { value, low, high, .. } => {
                visit(value);
                visit(low);
                visit(high);
            }
            ExprKind::Call { args, .. } | ExprKind::Array(args) => args.iter_mut().for_each(visit),
            ExprKind::Case { operand, branches, otherwise } => {
                operand.iter_mut().for_each(|expr| visit(expr));
                for (when, then) in branches {
                    visit(when);
                    visit(then);
                }
                otherwise.iter_mut().for_each(|expr| visit(expr));
            }
            ExprKind::Object(members) => members.iter_mut().for_each(|(_, value)| visit(value)),
            ExprKind::Subquery(subquery) | ExprKind::Exists(subquery) => {
                subquery.items.exprs_mut().for_each(&mut visit);
                visit(&mut subquery.source);
                subquery.filter.iter_mut().for_each(visit);
            }
        }
    }

    /// Translates every span: for an expression that stands inside a larger text.
    pub fn map_spans(&mut self, map: &dyn Fn(Span) -> Span) {
        self.span = map(self.span);
        self.for_each_child_mut(|child| child.map_spans(map));
    }
}

impl Items {
    /// Its expressions in order.
    pub fn exprs(&self) -> impl Iterator<Item = &Expr> {
        let (value, list) = match self {
            Self::Value(expr) => (Some(expr), &[][..]),
            Self::List(items) => (None, items.as_slice()),
        };
        value.into_iter().chain(list.iter().map(|item| &item.expr))
    }

    /// The same, to change them.
    pub fn exprs_mut(&mut self) -> impl Iterator<Item = &mut Expr> {
        let (value, list) = match self {
            Self::Value(expr) => (Some(expr), &mut [][..]),
            Self::List(items) => (None, items.as_mut_slice()),
        };
        value.into_iter().chain(list.iter_mut().map(|item| &mut item.expr))
    }
}

impl Select {
    /// All its expressions.
    pub fn exprs(&self) -> impl Iterator<Item = &Expr> {
        self.set
            .iter()
            .map(|(_, expr)| expr)
            .chain(self.items.exprs())
            .chain(self.filter.iter())
            .chain(self.group_by.iter())
            .chain(self.having.iter())
            .chain(self.absence.iter().flat_map(|absence| absence.exprs()))
    }

    /// The same, to change them.
    pub fn exprs_mut(&mut self) -> impl Iterator<Item = &mut Expr> {
        self.set
            .iter_mut()
            .map(|(_, expr)| expr)
            .chain(self.items.exprs_mut())
            .chain(self.filter.iter_mut())
            .chain(self.group_by.iter_mut())
            .chain(self.having.iter_mut())
            .chain(self.absence.iter_mut().flat_map(|absence| absence.exprs_mut()))
    }

    /// Translates every span: for a statement that stands inside a larger text.
    pub fn map_spans(&mut self, map: &dyn Fn(Span) -> Span) {
        if let Some((_, span)) = &mut self.from {
            *span = map(*span);
        }
        if let Some(absence) = &mut self.absence {
            absence.span = map(absence.span);
        }
        self.exprs_mut().for_each(|expr| expr.map_spans(map));
    }
}
