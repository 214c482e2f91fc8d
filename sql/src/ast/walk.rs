//! Going through a tree: the parts of what a statement is made of, to read or to change them.

use super::{Absence, After, Expr, ExprKind, Items, Select, Span};

/// What both walks have in common: the direct parts, in the order in which they are written. `$mutable` is `mut` or
/// nothing, and `$iter` and `$exprs` go through lists in the same way.
macro_rules! for_each_child {
    ($self:ident, $visit:ident, $iter:ident, $exprs:ident $(, $mutable:tt)?) => {
        match &$($mutable)? $self.kind {
            ExprKind::Literal(_) | ExprKind::Star | ExprKind::Name(_) | ExprKind::Variable(_) | ExprKind::Slot(_) => {}
            ExprKind::Member { of, .. } => $visit(of),
            ExprKind::Index { of, index } => {
                $visit(of);
                $visit(index);
            }
            ExprKind::Unary { operand, .. } | ExprKind::IsNull { operand, .. } | ExprKind::Cast { operand, .. } => {
                $visit(operand);
            }
            ExprKind::Binary { left, right, .. } | ExprKind::IsDistinct { left, right, .. } => {
                $visit(left);
                $visit(right);
            }
            ExprKind::Like { value, pattern, .. } => {
                $visit(value);
                $visit(pattern);
            }
            ExprKind::InList { value, list, .. } => {
                $visit(value);
                list.$iter().for_each($visit);
            }
            ExprKind::Between { value, low, high, .. } => {
                $visit(value);
                $visit(low);
                $visit(high);
            }
            ExprKind::Call { args, .. } | ExprKind::Array(args) => args.$iter().for_each($visit),
            ExprKind::Case { operand, branches, otherwise } => {
                operand.$iter().for_each(|expr| $visit(expr));
                for (when, then) in branches {
                    $visit(when);
                    $visit(then);
                }
                otherwise.$iter().for_each(|expr| $visit(expr));
            }
            ExprKind::Object(members) => members.$iter().for_each(|(_, value)| $visit(value)),
            ExprKind::Subquery(subquery) | ExprKind::Exists(subquery) => {
                subquery.items.$exprs().for_each(&mut $visit);
                $visit(&$($mutable)? subquery.source);
                subquery.filter.$iter().for_each($visit);
            }
        }
    };
}

impl Expr {
    /// Calls `visit` with each direct part, those of a nested query included.
    pub fn for_each_child<'a>(&'a self, mut visit: impl FnMut(&'a Expr)) {
        for_each_child!(self, visit, iter, exprs);
    }

    /// The same, to change them.
    pub fn for_each_child_mut(&mut self, mut visit: impl FnMut(&mut Expr)) {
        for_each_child!(self, visit, iter_mut, exprs_mut, mut);
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
