//! The second pass: columns to their exact names, scope by scope.
//!
//! Inside a SELECT a name means a column of its FROM first, then an alias of its own select list (GROUP BY, HAVING), then
//! something of the query around it; in ORDER BY the select list comes first. This is PostgreSQL's order.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, JoinConstraint, JoinOperator, ObjectName, Query, Select, SelectItem, SelectItemQualifiedWildcardKind,
    SetExpr, Statement, TableAlias, TableFactor, TableWithJoins, VisitMut, VisitorMut,
};

use super::{Match, Pool, Relation, ident_of};
use crate::query::error::QueryError;

/// Puts exact names of columns, given the columns of each relation that the statement reads.
pub(in crate::query) fn columns(
    statement: &mut Statement,
    default: &str,
    relations: &[(Relation, Vec<String>)],
) -> Result<(), QueryError> {
    let known = Known { default, relations, ctes: Vec::new() };
    match statement.visit(&mut Columns { known, scopes: Vec::new() }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

/// What relations are made of: those of the catalog, and the common table expressions in sight.
struct Known<'a> {
    default: &'a str,
    relations: &'a [(Relation, Vec<String>)],
    /// Innermost last.
    ctes: Vec<(String, Vec<String>)>,
}

/// The columns that a FROM clause brings into sight.
#[derive(Default)]
struct Sources {
    all: Vec<String>,
    any: Pool,
    qualifiers: Pool,
    of: BTreeMap<String, Pool>,
}

impl Sources {
    fn add(&mut self, qualifier: Option<&str>, columns: Vec<String>) {
        let own = qualifier.map(|qualifier| {
            self.qualifiers.add(qualifier);
            self.of.entry(qualifier.to_owned()).or_default()
        });
        let mut own = own;
        for column in columns {
            self.any.add(&column);
            if let Some(own) = &mut own {
                own.add(&column);
            }
            self.all.push(column);
        }
    }
}

impl Known<'_> {
    /// The columns of one element of a FROM clause.
    fn factor(&mut self, factor: &TableFactor, into: &mut Sources) {
        match factor {
            TableFactor::Table { name, alias, args: None, .. } => {
                let columns = self.named(name);
                let own = name.0.last().and_then(|part| part.as_ident()).map(|ident| ident.value.as_str());
                let qualifier = alias.as_ref().map(|alias| alias.name.value.as_str()).or(own);
                into.add(qualifier, renamed(columns, alias.as_ref()));
            }
            TableFactor::Derived { subquery, alias, .. } => {
                let columns = self.outputs(subquery);
                into.add(alias.as_ref().map(|alias| alias.name.value.as_str()), renamed(columns, alias.as_ref()));
            }
            TableFactor::NestedJoin { table_with_joins, .. } => self.joined(table_with_joins, into),
            TableFactor::Table { alias, .. }
            | TableFactor::Function { alias, .. }
            | TableFactor::TableFunction { alias, .. }
            | TableFactor::UNNEST { alias, .. } => {
                into.add(alias.as_ref().map(|alias| alias.name.value.as_str()), renamed(Vec::new(), alias.as_ref()));
            }
            _ => {}
        }
    }

    fn joined(&mut self, from: &TableWithJoins, into: &mut Sources) {
        self.factor(&from.relation, into);
        for join in &from.joins {
            self.factor(&join.relation, into);
        }
    }

    fn named(&self, name: &ObjectName) -> Vec<String> {
        let idents: Vec<&str> =
            name.0.iter().filter_map(|part| part.as_ident()).map(|ident| ident.value.as_str()).collect();
        let (schema, table) = match idents.as_slice() {
            [table] => {
                if let Some((_, columns)) = self.ctes.iter().rev().find(|(name, _)| name == table) {
                    return columns.clone();
                }
                (self.default, *table)
            }
            [.., schema, table] => (*schema, *table),
            [] => return Vec::new(),
        };
        let found = self.relations.iter().find(|(known, _)| known.schema == schema && known.name == table);
        found.map(|(_, columns)| columns.clone()).unwrap_or_default()
    }

    fn sources(&mut self, select: &Select) -> Sources {
        let mut sources = Sources::default();
        for from in &select.from {
            self.joined(from, &mut sources);
        }
        sources
    }

    /// The names of a query's columns as far as they are known without planning it.
    fn outputs(&mut self, query: &Query) -> Vec<String> {
        let outer = self.ctes.len();
        self.enter(query);
        let outputs = self.body(&query.body);
        self.ctes.truncate(outer);
        outputs
    }

    /// Brings the common table expressions of a query into sight.
    fn enter(&mut self, query: &Query) {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            let columns = renamed(self.outputs(&cte.query), Some(&cte.alias));
            self.ctes.push((cte.alias.name.value.clone(), columns));
        }
    }

    fn body(&mut self, body: &SetExpr) -> Vec<String> {
        match body {
            SetExpr::Query(query) => self.outputs(query),
            SetExpr::SetOperation { left, .. } => self.body(left),
            SetExpr::Select(select) => {
                let sources = self.sources(select);
                select.projection.iter().flat_map(|item| output(item, &sources)).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// `AS t (a, b)` gives the first columns new names.
fn renamed(mut columns: Vec<String>, alias: Option<&TableAlias>) -> Vec<String> {
    let Some(alias) = alias else { return columns };
    for (index, column) in alias.columns.iter().enumerate() {
        match columns.get_mut(index) {
            Some(name) => name.clone_from(&column.name.value),
            None => columns.push(column.name.value.clone()),
        }
    }
    columns
}

/// The names that one item of a select list gives.
fn output(item: &SelectItem, sources: &Sources) -> Vec<String> {
    let exact = |ident: &Ident, pool: &Pool| match pool.find(&ident.value) {
        Match::Other(exact) if ident.quote_style.is_none() => vec![exact],
        _ => vec![ident.value.clone()],
    };
    match item {
        SelectItem::ExprWithAlias { alias, .. } => vec![alias.value.clone()],
        SelectItem::ExprWithAliases { aliases, .. } => aliases.iter().map(|alias| alias.value.clone()).collect(),
        SelectItem::UnnamedExpr(Expr::Identifier(column)) => exact(column, &sources.any),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts)) => {
            parts.last().map(|column| exact(column, &sources.any)).unwrap_or_default()
        }
        SelectItem::UnnamedExpr(_) => Vec::new(),
        SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => sources.all.clone(),
    }
}

/// What names can mean at one place.
enum Scope {
    /// Inside a SELECT.
    Select(Sources),
    /// In a query but outside of its SELECT: ORDER BY. The number of common table expressions in sight outside of it.
    Query { outputs: Pool, sources: Sources, outer: usize },
}

impl Scope {
    fn sources(&self) -> &Sources {
        match self {
            Self::Select(sources) | Self::Query { sources, .. } => sources,
        }
    }

    fn column(&self, name: &str) -> Match {
        let column = self.sources().any.find(name);
        match (self, column) {
            (Self::Select(_), column) => column,
            (Self::Query { outputs, .. }, column) => match outputs.find(name) {
                Match::Nothing => column,
                output => output,
            },
        }
    }
}

struct Columns<'a> {
    known: Known<'a>,
    /// Innermost last.
    scopes: Vec<Scope>,
}

impl Columns<'_> {
    fn column(&self, column: &mut Ident) -> ControlFlow<Box<QueryError>> {
        if column.quote_style.is_some() {
            return ControlFlow::Continue(());
        }
        let found = self.scopes.iter().rev().map(|scope| scope.column(&column.value));
        let first = found.into_iter().find(|found| !matches!(found, Match::Nothing));
        first.unwrap_or(Match::Nothing).rewrite(column)
    }

    fn qualified(&self, qualifier: &mut Ident, column: Option<&mut Ident>) -> ControlFlow<Box<QueryError>> {
        for scope in self.scopes.iter().rev() {
            let sources = scope.sources();
            if matches!(sources.qualifiers.find(&qualifier.value), Match::Nothing) {
                continue;
            }
            sources.qualifiers.rewrite(qualifier)?;
            return match (sources.of.get(&qualifier.value), column) {
                (Some(columns), Some(column)) => columns.rewrite(column),
                _ => ControlFlow::Continue(()),
            };
        }
        ControlFlow::Continue(())
    }
}

impl VisitorMut for Columns<'_> {
    type Break = Box<QueryError>;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Self::Break> {
        let outer = self.known.ctes.len();
        self.known.enter(query);
        let mut outputs = Pool::default();
        for name in self.known.body(&query.body) {
            outputs.add(&name);
        }
        let sources = match query.body.as_ref() {
            SetExpr::Select(select) => self.known.sources(select),
            _ => Sources::default(),
        };
        self.scopes.push(Scope::Query { outputs, sources, outer });
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Self::Break> {
        if let Some(Scope::Query { outer, .. }) = self.scopes.pop() {
            self.known.ctes.truncate(outer);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Self::Break> {
        let sources = self.known.sources(select);
        self.scopes.push(Scope::Select(sources));
        for item in &mut select.projection {
            if let SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) = item
                && let Some(qualifier) = name.0.last_mut().and_then(ident_of)
            {
                self.qualified(qualifier, None)?;
            }
        }
        for join in select.from.iter_mut().flat_map(|from| &mut from.joins) {
            if let Some(JoinConstraint::Using(names)) = constraint(&mut join.join_operator) {
                for column in names.iter_mut().filter_map(|name| name.0.last_mut().and_then(ident_of)) {
                    self.column(column)?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, _: &mut Select) -> ControlFlow<Self::Break> {
        self.scopes.pop();
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        match expr {
            Expr::Identifier(column) => self.column(column),
            Expr::CompoundIdentifier(parts) => match parts.as_mut_slice() {
                [.., qualifier, column] => self.qualified(qualifier, Some(column)),
                _ => ControlFlow::Continue(()),
            },
            _ => ControlFlow::Continue(()),
        }
    }
}

fn constraint(operator: &mut JoinOperator) -> Option<&mut JoinConstraint> {
    match operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint)
        | JoinOperator::Semi(constraint)
        | JoinOperator::LeftSemi(constraint)
        | JoinOperator::RightSemi(constraint)
        | JoinOperator::Anti(constraint)
        | JoinOperator::LeftAnti(constraint)
        | JoinOperator::RightAnti(constraint) => Some(constraint),
        _ => None,
    }
}
