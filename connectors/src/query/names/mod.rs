//! Names in analyst SQL: devices write `deviceId`, analysts type `deviceid`.
//!
//! A name matches exactly, else its only match without regard to case, else the error shows the candidates in quotes. A
//! quoted name only ever matches exactly. DataFusion would fold unquoted names to lower case; that is switched off and the
//! parsed statement is rewritten here, before planning, in two passes: `relations` finds what is read and puts exact names,
//! then, with their columns known, `columns` does the same for every column, scope by scope.
//!
//! Limits: names inside `EXCLUDE (…)` and `REPLACE (…)` of a wildcard, in `PIVOT` and in the columns of table functions
//! must be written exactly.

mod columns;
mod relations;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Ident, ObjectNamePart};

use super::error::{Position, QueryError};

pub(super) use columns::columns;
pub(super) use relations::relations;

/// A relation as the statement names it, rewritten to its exact name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Relation {
    /// Schema and name, both exact.
    pub schema: String,
    /// Exact name.
    pub name: String,
}

/// Schema → names of its relations.
pub(super) type Names = BTreeMap<String, Vec<String>>;

/// Exact names, found without regard to case.
#[derive(Default)]
pub(super) struct Pool(BTreeMap<String, BTreeSet<String>>);

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
        self.find(&ident.value).rewrite(ident)
    }
}

impl Match {
    fn rewrite(self, ident: &mut Ident) -> ControlFlow<Box<QueryError>> {
        match self {
            Self::Exact | Self::Nothing => ControlFlow::Continue(()),
            Self::Other(exact) => {
                ident.value = exact;
                ident.quote_style = Some('"');
                ControlFlow::Continue(())
            }
            Self::Several(names) => ControlFlow::Break(Box::new(ambiguous(&ident.value, &names, position(ident)))),
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
        columns(&mut statement, "public", &with_columns)?;
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
    fn an_alias_never_hides_a_column_of_its_own_select() {
        // WHERE and the select list mean the column; ORDER BY and the query around mean the alias.
        assert_eq!(
            rewritten("SELECT max(deviceid) AS deviceid FROM sensors WHERE deviceid > 'a' ORDER BY DEVICEID").unwrap(),
            "SELECT max(\"deviceId\") AS deviceid FROM \"Sensors\" WHERE \"deviceId\" > 'a' ORDER BY \"deviceid\""
        );
        assert_eq!(
            rewritten("SELECT deviceid FROM (SELECT max(DEVICEID) AS deviceid FROM sensors) x").unwrap(),
            "SELECT deviceid FROM (SELECT max(\"deviceId\") AS deviceid FROM \"Sensors\") x"
        );
        assert_eq!(
            rewritten("SELECT X.DEVICEID FROM (SELECT deviceid FROM sensors) x WHERE EXISTS (SELECT 1 FROM system.rules r WHERE R.NAME = x.deviceID)").unwrap(),
            "SELECT \"x\".\"deviceId\" FROM (SELECT \"deviceId\" FROM \"Sensors\") x WHERE EXISTS (SELECT 1 FROM system.rules r WHERE \"r\".\"name\" = x.\"deviceId\")"
        );
        assert_eq!(
            rewritten(
                "SELECT upper(deviceid) AS Id, count(*) FROM sensors GROUP BY ID UNION SELECT 'x', 1 ORDER BY iD"
            )
            .unwrap(),
            "SELECT upper(\"deviceId\") AS Id, count(*) FROM \"Sensors\" GROUP BY \"Id\" UNION SELECT 'x', 1 ORDER BY \"Id\""
        );
        assert_eq!(
            rewritten("WITH a (Foo) AS (SELECT deviceid FROM sensors), b AS (SELECT * FROM A) SELECT b.FOO FROM b")
                .unwrap(),
            "WITH a (Foo) AS (SELECT \"deviceId\" FROM \"Sensors\"), b AS (SELECT * FROM \"a\") SELECT b.\"Foo\" FROM b"
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
