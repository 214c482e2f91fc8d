//! Names in analyst SQL: devices write `deviceId`, analysts type `deviceid`.
//!
//! A name matches exactly, else its only match without regard to case, else the error shows the candidates in quotes. A
//! quoted name only ever matches exactly. DataFusion would fold unquoted names to lower case; that is switched off and the
//! parsed statement is rewritten here, before planning, against the relations it reads.
//!
//! Limits: an unqualified column is looked for in all relations of the statement together, not scope by scope; when two of
//! them have columns that differ only by case, the name must be quoted or qualified. Names inside `EXCLUDE (…)` and
//! `REPLACE (…)` of a wildcard, and of `PIVOT`, must be written exactly.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, Ident, JoinConstraint, JoinOperator, ObjectName, ObjectNamePart, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, Statement, TableAlias, TableFactor, VisitMut, VisitorMut,
};

use super::error::{Position, QueryError};
use crate::nearest::nearest;

/// A relation as the statement names it, rewritten to its exact name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Relation {
    /// Schema and name, both exact.
    pub schema: String,
    /// Exact name.
    pub name: String,
    /// Under which name columns are qualified: the alias, or the name.
    pub qualifier: String,
}

/// Schema → names of its relations.
pub(super) type Names = BTreeMap<String, Vec<String>>;

/// The first of the two rewrites: relations to their exact names. Returns those that the statement reads.
pub(super) fn relations(statement: &mut Statement, known: &Names, default: &str) -> Result<Vec<Relation>, QueryError> {
    let mut ctes = Ctes::default();
    let _ = statement.visit(&mut ctes);
    let mut visitor = Relations { known, default, ctes: ctes.0, found: Vec::new() };
    match statement.visit(&mut visitor) {
        ControlFlow::Continue(()) => Ok(visitor.found),
        ControlFlow::Break(error) => Err(*error),
    }
}

/// The second: columns to their exact names, given the columns of each relation.
pub(super) fn columns(statement: &mut Statement, relations: &[(Relation, Vec<String>)]) -> Result<(), QueryError> {
    let mut given = Given::default();
    let _ = statement.visit(&mut given);
    let mut visitor = Columns { any: given.columns, qualifiers: given.qualifiers, of: BTreeMap::new() };
    for (relation, columns) in relations {
        visitor.qualifiers.add(&relation.qualifier);
        let own = visitor.of.entry(relation.qualifier.clone()).or_default();
        for column in columns {
            visitor.any.add(column);
            own.add(column);
        }
    }
    match statement.visit(&mut visitor) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(*error),
    }
}

/// Exact names, found without regard to case.
#[derive(Default)]
struct Pool(BTreeMap<String, BTreeSet<String>>);

enum Match {
    Exact,
    Other(String),
    Several(Vec<String>),
    Nothing,
}

impl Pool {
    fn add(&mut self, name: &str) {
        self.0.entry(name.to_lowercase()).or_default().insert(name.to_owned());
    }

    fn find(&self, name: &str) -> Match {
        match self.0.get(&name.to_lowercase()) {
            None => Match::Nothing,
            Some(exact) if exact.contains(name) => Match::Exact,
            Some(exact) => match (exact.len(), exact.first()) {
                (1, Some(only)) => Match::Other(only.clone()),
                _ => Match::Several(exact.iter().cloned().collect()),
            },
        }
    }

    /// Puts the exact name in place of an unquoted one.
    fn rewrite(&self, ident: &mut Ident) -> ControlFlow<Box<QueryError>> {
        if ident.quote_style.is_some() {
            return ControlFlow::Continue(());
        }
        match self.find(&ident.value) {
            Match::Exact | Match::Nothing => ControlFlow::Continue(()),
            Match::Other(exact) => {
                ident.value = exact;
                ident.quote_style = Some('"');
                ControlFlow::Continue(())
            }
            Match::Several(names) => ControlFlow::Break(Box::new(ambiguous(&ident.value, &names, position(ident)))),
        }
    }
}

fn ambiguous(name: &str, candidates: &[String], position: Option<Position>) -> QueryError {
    let quoted: Vec<String> = candidates.iter().map(|name| format!("\"{name}\"")).collect();
    QueryError::refused(format!("{name} could be {}", quoted.join(" or ")))
        .hint("write the name in double quotes, with its capitals")
        .at(position)
}

fn position(ident: &Ident) -> Option<Position> {
    Position::new(ident.span.start.line, ident.span.start.column)
}

fn ident_of(part: &mut ObjectNamePart) -> Option<&mut Ident> {
    match part {
        ObjectNamePart::Identifier(ident) => Some(ident),
        ObjectNamePart::Function(_) => None,
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
            TableFactor::Table { name, alias, args: None, .. } => self.relation(name, alias.as_ref()),
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_statement(&mut self, statement: &mut Statement) -> ControlFlow<Self::Break> {
        match statement {
            Statement::ExplainTable { table_name, .. } => self.relation(table_name, None),
            _ => ControlFlow::Continue(()),
        }
    }
}

impl Relations<'_> {
    fn relation(&mut self, name: &mut ObjectName, alias: Option<&TableAlias>) -> ControlFlow<Box<QueryError>> {
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
        let qualifier = alias.map_or(&table.value, |alias| &alias.name.value).clone();
        self.found.push(Relation { schema, name: table.value.clone(), qualifier });
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

/// Names that the statement itself gives: aliases of columns and of relations.
#[derive(Default)]
struct Given {
    columns: Pool,
    qualifiers: Pool,
}

impl Given {
    fn alias(&mut self, alias: &TableAlias) {
        self.qualifiers.add(&alias.name.value);
        alias.columns.iter().for_each(|column| self.columns.add(&column.name.value));
    }
}

impl VisitorMut for Given {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        query.with.iter().flat_map(|with| &with.cte_tables).for_each(|cte| self.alias(&cte.alias));
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        for item in &select.projection {
            match item {
                SelectItem::ExprWithAlias { alias, .. } => self.columns.add(&alias.value),
                SelectItem::ExprWithAliases { aliases, .. } => aliases.iter().for_each(|a| self.columns.add(&a.value)),
                _ => {}
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        match factor {
            TableFactor::Table { alias: Some(alias), .. }
            | TableFactor::Derived { alias: Some(alias), .. }
            | TableFactor::Function { alias: Some(alias), .. }
            | TableFactor::UNNEST { alias: Some(alias), .. }
            | TableFactor::NestedJoin { alias: Some(alias), .. } => self.alias(alias),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

struct Columns {
    any: Pool,
    qualifiers: Pool,
    of: BTreeMap<String, Pool>,
}

impl VisitorMut for Columns {
    type Break = Box<QueryError>;

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<Self::Break> {
        match expr {
            Expr::Identifier(column) => self.any.rewrite(column),
            Expr::CompoundIdentifier(parts) => match parts.as_mut_slice() {
                [.., qualifier, column] => {
                    self.qualifiers.rewrite(qualifier)?;
                    self.of.get(&qualifier.value).unwrap_or(&self.any).rewrite(column)
                }
                _ => ControlFlow::Continue(()),
            },
            _ => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Self::Break> {
        for item in &mut select.projection {
            if let SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) = item
                && let Some(qualifier) = name.0.last_mut().and_then(ident_of)
            {
                self.qualifiers.rewrite(qualifier)?;
            }
        }
        for join in select.from.iter_mut().flat_map(|from| &mut from.joins) {
            if let Some(JoinConstraint::Using(names)) = constraint(&mut join.join_operator) {
                for column in names.iter_mut().filter_map(|name| name.0.last_mut().and_then(ident_of)) {
                    self.any.rewrite(column)?;
                }
            }
        }
        ControlFlow::Continue(())
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

#[cfg(test)]
mod tests {
    use super::*;
    use datafusion::sql::sqlparser::{dialect::PostgreSqlDialect, parser::Parser};

    /// The statement after both rewrites, over `Sensors(deviceId, Temp, temp)` and `system.rules(name)`.
    fn rewritten(sql: &str) -> Result<String, QueryError> {
        let mut statement = Parser::parse_sql(&PostgreSqlDialect {}, sql).unwrap().remove(0);
        let known = BTreeMap::from([
            ("public".to_owned(), vec!["Sensors".to_owned(), "farm".to_owned(), "Farm".to_owned()]),
            ("system".to_owned(), vec!["rules".to_owned()]),
        ]);
        let found = relations(&mut statement, &known, "public")?;
        let with_columns: Vec<_> = found
            .into_iter()
            .map(|relation| {
                let columns: &[&str] = match relation.name.as_str() {
                    "Sensors" => &["deviceId", "Temp", "temp"],
                    _ => &["name"],
                };
                (relation, columns.iter().map(|c| (*c).to_owned()).collect())
            })
            .collect();
        columns(&mut statement, &with_columns)?;
        Ok(statement.to_string())
    }

    #[test]
    fn a_unique_match_without_regard_to_case_is_taken() {
        assert_eq!(
            rewritten("SELECT DEVICEID, s.deviceid, temp FROM sensors S WHERE deviceid = 'a' ORDER BY DeviceID")
                .unwrap(),
            "SELECT \"deviceId\", \"S\".\"deviceId\", temp FROM \"Sensors\" S WHERE \"deviceId\" = 'a' ORDER BY \"deviceId\""
        );
        assert_eq!(rewritten("SELECT Name FROM SYSTEM.Rules").unwrap(), "SELECT \"name\" FROM \"system\".\"rules\"");
    }

    #[test]
    fn aliases_and_common_tables_are_names_too() {
        assert_eq!(
            rewritten("WITH Hot AS (SELECT max(deviceid) AS maxId FROM sensors) SELECT maxid FROM hot").unwrap(),
            "WITH Hot AS (SELECT max(\"deviceId\") AS maxId FROM \"Sensors\") SELECT \"maxId\" FROM \"Hot\""
        );
        assert_eq!(
            rewritten("SELECT a.* FROM sensors A JOIN sensors b USING (DEVICEID)").unwrap(),
            "SELECT \"A\".* FROM \"Sensors\" A JOIN \"Sensors\" b USING(\"deviceId\")"
        );
    }

    #[test]
    fn a_quoted_name_is_left_alone_and_several_matches_are_refused() {
        assert_eq!(rewritten("SELECT \"DEVICEID\" FROM sensors").unwrap(), "SELECT \"DEVICEID\" FROM \"Sensors\"");
        let error = rewritten("SELECT TEMP FROM sensors").unwrap_err();
        assert_eq!(error.message, "TEMP could be \"Temp\" or \"temp\"");
        assert_eq!(error.position, Position::new(1, 8));
        assert_eq!(rewritten("SELECT 1 FROM FARM").unwrap_err().message, "FARM could be \"Farm\" or \"farm\"");
        assert_eq!(rewritten("SELECT 1 FROM farm").unwrap(), "SELECT 1 FROM farm");
    }

    #[test]
    fn a_missing_table_names_the_nearest() {
        let error = rewritten("SELECT 1\nFROM sensor").unwrap_err();
        assert_eq!((error.message.as_str(), error.hint.as_deref()), ("no table sensor", Some("did you mean Sensors?")));
        assert_eq!(error.position, Position::new(2, 6));
        let error = rewritten("SELECT 1 FROM '/etc/passwd'");
        assert!(error.is_err());
        assert!(rewritten("SELECT 1 FROM nowhere.rules").is_err());
    }
}
