//! The syntax tree: what a statement says, before anything is known about types or messages.

mod walk;

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
