//! The first pass: relations to their exact names.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Ident, ObjectName, Query, Statement, TableFactor, VisitMut, VisitorMut};

use super::{Match, Names, Pool, Relation, ident_of, position};
use crate::nearest::nearest;
use crate::query::error::{Position, QueryError};

/// Puts exact names of relations. Returns those that the statement reads.
pub(in crate::query) fn relations(
    statement: &mut Statement,
    known: &Names,
    default: &str,
) -> Result<Vec<Relation>, QueryError> {
    let mut ctes = Ctes::default();
    let _ = statement.visit(&mut ctes);
    let mut visitor = Relations { known, default, ctes: ctes.0, found: Vec::new() };
    match statement.visit(&mut visitor) {
        ControlFlow::Continue(()) => Ok(visitor.found),
        ControlFlow::Break(error) => Err(*error),
    }
}

/// Names of common table expressions.
#[derive(Default)]
struct Ctes(Pool);

impl VisitorMut for Ctes {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        for cte in query.with.iter().flat_map(|with| &with.cte_tables) {
            self.0.add(&cte.alias.name.value);
        }
        ControlFlow::Continue(())
    }
}

struct Relations<'a> {
    known: &'a Names,
    default: &'a str,
    ctes: Pool,
    found: Vec<Relation>,
}

impl VisitorMut for Relations<'_> {
    type Break = Box<QueryError>;

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<Self::Break> {
        match factor {
            TableFactor::Table { name, args: None, .. } => self.relation(name),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_statement(&mut self, statement: &mut Statement) -> ControlFlow<Self::Break> {
        match statement {
            Statement::ExplainTable { table_name, .. } => self.relation(table_name),
            _ => ControlFlow::Continue(()),
        }
    }
}

impl Relations<'_> {
    fn relation(&mut self, name: &mut ObjectName) -> ControlFlow<Box<QueryError>> {
        let written = name.to_string();
        let mut idents: Vec<&mut Ident> = name.0.iter_mut().filter_map(ident_of).collect();
        let (schema, table) = match idents.as_mut_slice() {
            [table] => {
                if let Match::Exact | Match::Other(_) = self.ctes.find(&table.value) {
                    return self.ctes.rewrite(table);
                }
                (None, table)
            }
            [schema, table] | [_, schema, table] => (Some(schema), table),
            _ => return ControlFlow::Continue(()),
        };
        let schema = match schema {
            None => self.default.to_owned(),
            Some(ident) => {
                let mut pool = Pool::default();
                self.known.keys().for_each(|name| pool.add(name));
                pool.rewrite(ident)?;
                ident.value.clone()
            }
        };
        let Some(tables) = self.known.get(&schema) else {
            return ControlFlow::Break(Box::new(self.missing(&written, position(table))));
        };
        let mut pool = Pool::default();
        tables.iter().for_each(|name| pool.add(name));
        pool.rewrite(table)?;
        if !tables.contains(&table.value) {
            return ControlFlow::Break(Box::new(self.missing(&written, position(table))));
        }
        self.found.push(Relation { schema, name: table.value.clone() });
        ControlFlow::Continue(())
    }

    fn missing(&self, written: &str, position: Option<Position>) -> QueryError {
        let mut all = Vec::new();
        for (schema, names) in self.known.iter().filter(|(schema, _)| schema.as_str() != "information_schema") {
            let prefix = if schema == self.default { String::new() } else { format!("{schema}.") };
            all.extend(names.iter().map(|name| format!("{prefix}{name}")));
        }
        let hint = match nearest(written, all.iter().map(String::as_str)) {
            Some(near) => format!("did you mean {near}?"),
            None if all.is_empty() => "there are none yet".to_owned(),
            None => {
                let more = if all.len() > 20 { " …" } else { "" };
                format!("there are: {}{more}", all.iter().take(20).cloned().collect::<Vec<_>>().join(", "))
            }
        };
        QueryError::refused(format!("no table {written}")).hint(hint).at(position)
    }
}
