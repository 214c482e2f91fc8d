//! Applying files: what changes, what is refused, and that the catalog says it after a restart.

use crate::apply::{Plan, RuleFile, plan};
use crate::catalog::{Catalog, Kind};

fn file(name: &str, text: &str) -> RuleFile {
    RuleFile { name: name.into(), text: text.into() }
}

const TABLE: &str = "CREATE TABLE t (id VARCHAR, PRIMARY KEY (id));";
const RULE: &str = "CREATE RULE r AS SELECT id FROM 'a/+' INTO t;";

/// Plans, and applies what was planned.
fn apply(catalog: &mut Catalog, files: &[RuleFile]) -> Result<Vec<String>, Vec<String>> {
    let Plan { changes, discarded, .. } = plan(catalog, "folder", files, true).map_err(|reports| {
        reports.iter().flat_map(|report| &report.diagnostics).map(|one| one.message.to_string()).collect::<Vec<_>>()
    })?;
    let mut lines: Vec<String> = changes.iter().map(|change| format!("{change:?}")).collect();
    lines.extend(discarded.iter().map(|(rule, state)| format!("discard {state:?} of {rule}")));
    let lines = lines.iter().map(|line| line.split(", form").next().unwrap_or_default().to_owned()).collect();
    if !changes.is_empty() {
        let set = crate::catalog::ChangeSet::new("folder", changes);
        let read = crate::catalog::ChangeSet::decode(&set.encode()).unwrap();
        assert_eq!(read, set);
        catalog.apply(&read, 7).unwrap();
    }
    Ok(lines)
}

#[test]
fn files_are_followed() {
    let mut catalog = Catalog::default();
    let files = [file("a.sql", TABLE), file("b.sql", RULE)];
    assert_eq!(apply(&mut catalog, &files).unwrap().len(), 2);
    assert!(apply(&mut catalog, &files).unwrap().is_empty(), "the same text is a no-op");
    let spaced = [file("a.sql", TABLE), file("b.sql", "-- a comment\nCREATE  RULE r AS SELECT id FROM 'a/+' INTO t")];
    assert!(apply(&mut catalog, &spaced).unwrap().is_empty(), "white space and comments are no change");
    let changed = [file("a.sql", TABLE), file("b.sql", "CREATE RULE r AS SELECT id, x FROM 'a/+' INTO t;")];
    assert_eq!(apply(&mut catalog, &changed).unwrap(), [r#"Put { kind: Rule, name: "r""#]);
    let stored = Catalog::decode(&catalog.encode()).unwrap();
    assert_eq!(stored.encode(), catalog.encode());
    // Without its file the rule goes, the table stays.
    assert_eq!(apply(&mut catalog, &[]).unwrap(), [r#"Drop { kind: Rule, name: "r" }"#]);
    assert!(catalog.get(Kind::Table, "t").is_some());
    assert!(catalog.get(Kind::Rule, "r").is_none());
}

#[test]
fn a_broken_file_changes_nothing() {
    let mut catalog = Catalog::default();
    apply(&mut catalog, &[file("a.sql", TABLE)]).unwrap();
    let before = catalog.encode();
    let broken = [file("a.sql", TABLE), file("b.sql", RULE), file("c.sql", "CREATE RULE s AS SELECT FROM")];
    assert!(apply(&mut catalog, &broken).is_err());
    let unknown = [file("a.sql", TABLE), file("b.sql", "CREATE RULE r AS SELECT id FROM 'a/+' INTO tt;")];
    assert!(apply(&mut catalog, &unknown).unwrap_err().iter().any(|message| message.contains("tt")));
    assert_eq!(catalog.encode(), before);
}

#[test]
fn a_table_that_holds_rows_keeps_its_key() {
    let mut catalog = Catalog::default();
    apply(&mut catalog, &[file("a.sql", TABLE)]).unwrap();
    let other = "CREATE TABLE t (id VARCHAR, ts BIGINT, PRIMARY KEY (id, ts));";
    let refused = apply(&mut catalog, &[file("a.sql", other)]).unwrap_err();
    assert!(refused.iter().any(|message| message.contains("PRIMARY KEY")), "{refused:?}");
    let wider = "CREATE TABLE t (id VARCHAR, x DOUBLE, PRIMARY KEY (id));";
    assert_eq!(apply(&mut catalog, &[file("a.sql", wider)]).unwrap().len(), 1);
}

#[test]
fn windows_go_on_only_if_they_mean_the_same() {
    let mut catalog = Catalog::default();
    let rule = |items: &str, width: &str| {
        let text = format!(
            "CREATE RULE w AS SELECT k, {items} FROM 'a/+' GROUP BY k, tumble(INTERVAL '{width}') INTO TOPIC 'b'"
        );
        [file("w.sql", &text)]
    };
    apply(&mut catalog, &rule("count(*) AS n", "10 seconds")).unwrap();
    let renamed = apply(&mut catalog, &rule("count(*) AS m", "10 seconds")).unwrap();
    assert_eq!(renamed.len(), 1, "{renamed:?}");
    let wider = apply(&mut catalog, &rule("count(*) AS m", "20 seconds")).unwrap();
    assert_eq!(wider.last().map(String::as_str), Some("discard Windows of w"));
}

#[test]
fn timers_go_on_only_if_they_watch_the_same() {
    let mut catalog = Catalog::default();
    let rule = |items: &str, filter: &str, after: &str, key: &str, into: &str| {
        let text = format!(
            "CREATE RULE gone AS SELECT {items} FROM 'a/+' WHERE {filter} AFTER INTERVAL '{after}' UNLESS s = 'on'
             PARTITION BY {key} INTO TOPIC '{into}'"
        );
        [file("gone.sql", &text)]
    };
    apply(&mut catalog, &rule("s", "s = 'off'", "10 minutes", "topic(2)", "x")).unwrap();
    let kept = apply(&mut catalog, &rule("s, t", "s = 'away'", "10 minutes", "topic(2)", "x")).unwrap();
    assert_eq!(kept.len(), 1, "{kept:?}");
    for other in [
        rule("s, t", "s = 'away'", "11 minutes", "topic(2)", "x"),
        rule("s, t", "s = 'away'", "11 minutes", "topic(1)", "x"),
        rule("s, t", "s = 'away'", "11 minutes", "topic(1)", "${s}/x"),
    ] {
        let lost = apply(&mut catalog, &other).unwrap();
        assert_eq!(lost.last().map(String::as_str), Some("discard Timers of gone"));
    }
    assert_eq!(apply(&mut catalog, &[]).unwrap().last().map(String::as_str), Some("discard Timers of gone"));
}

#[test]
fn an_aws_document_brings_its_table() {
    let mut catalog = Catalog::default();
    let document = r#"{"sql": "SELECT * FROM 'macdonald/#'", "actions": [{"dynamoDB": {"tableName": "farm",
        "hashKeyField": "device", "hashKeyValue": "${topic(2)}", "rangeKeyField": "at", "rangeKeyValue": "${timestamp()}"}}]}"#;
    let changes = apply(&mut catalog, &[file("farm_rule.json", document)]).unwrap();
    assert_eq!(changes.len(), 2, "{changes:?}");
    assert!(catalog.get(Kind::Table, "farm").is_some() && catalog.get(Kind::Rule, "farm_rule").is_some());
}
