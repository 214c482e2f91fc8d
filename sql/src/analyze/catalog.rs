//! Whether the destinations of a rule exist and take its rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ast::{ExprKind, Item, Items, Span};
use crate::diagnostic::Diagnostic;
use crate::notify;
use crate::program::Call;
use crate::rule::{Action, ColumnType, ItemTarget, KeyTemplate, OutsideTarget, Rule, Statement, TableDef, Target};
use crate::suggest;

/// The built-in table that takes what failed.
pub const DEAD_LETTERS: &str = "dead_letters";

/// What there is to write into.
pub trait CatalogView {
    /// The table of that name.
    fn table(&self, name: &str) -> Option<TableDef>;
    /// The connector of the sink of that name.
    fn connector(&self, name: &str) -> Option<Arc<str>>;
    /// The names of all tables and sinks.
    fn names(&self) -> Vec<String>;
}

/// A catalog in memory: for checking files against one another before anything is applied.
#[derive(Clone, Debug, Default)]
pub struct Objects {
    tables: BTreeMap<Arc<str>, TableDef>,
    /// The connectors of sinks.
    sinks: BTreeMap<Arc<str>, Arc<str>>,
}

impl Objects {
    /// Applies a statement: what it creates is there, what it drops is not.
    pub fn apply(&mut self, statement: &Statement) {
        match statement {
            Statement::Table(table) => {
                self.tables.insert(table.name.clone(), table.clone());
            }
            Statement::Sink(sink) => {
                self.sinks.insert(sink.name.clone(), sink.connector.clone());
            }
            Statement::Rule(_) => {}
            Statement::Drop { kind, name, .. } => match kind {
                crate::rule::ObjectKind::Table => drop(self.tables.remove(name)),
                crate::rule::ObjectKind::Sink => {
                    self.sinks.remove(name);
                }
                crate::rule::ObjectKind::Rule => {}
            },
        }
    }
}

impl CatalogView for Objects {
    fn table(&self, name: &str) -> Option<TableDef> {
        self.tables.get(name).cloned()
    }

    fn connector(&self, name: &str) -> Option<Arc<str>> {
        self.sinks.get(name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.tables.keys().chain(self.sinks.keys()).map(|name| name.to_string()).collect()
    }
}

/// Checks the destinations of a rule against a catalog.
pub fn check(rule: &Rule, catalog: &dyn CatalogView) -> Vec<Diagnostic> {
    let mut out = Vec::new();
    if let Some((filter, span)) = &rule.select.from
        && let Some(name) = notify::name(filter)
    {
        check_topic(&name, *span, catalog, &mut out);
    }
    for action in &rule.actions {
        check_action(action, Some(rule), catalog, &mut out);
    }
    for call in rule.calls().iter().filter(|call| &**call.function == "get_dynamodb") {
        check_lookup(call, catalog, &mut out);
    }
    // What goes there is a message about the failure, not the rule's row.
    if let Some(action) = &rule.error_action {
        check_action(action, None, catalog, &mut out);
    }
    out
}

/// `FROM name`: there is a topic of that name.
fn check_topic(name: &str, span: Span, catalog: &dyn CatalogView, out: &mut Vec<Diagnostic>) {
    let is_topic = |name: &str| catalog.connector(name).is_some_and(|found| *found == *notify::CONNECTOR);
    if is_topic(name) {
        return;
    }
    let names = catalog.names();
    let help = suggest::did_you_mean(name, names.iter().map(String::as_str).filter(|name| is_topic(name)));
    let help = help.unwrap_or_else(|| {
        format!("for messages of an MQTT topic write it in quotes: FROM '{name}'; a named topic is made by CREATE SINK {name} WITH (connector = 'notify')")
    });
    let message = match catalog.table(name).is_some() || catalog.connector(name).is_some() {
        true => format!("a rule cannot read from {name}: it reads messages, or notifications of a topic"),
        false => format!("there is no topic {name} to read from"),
    };
    out.push(Diagnostic::error("from", span, message).help(help));
}

fn check_action(action: &Action, rule: Option<&Rule>, catalog: &dyn CatalogView, out: &mut Vec<Diagnostic>) {
    let Some(name) = action.destination() else { return };
    if &**name == DEAD_LETTERS {
        return;
    }
    if let Target::Outside(outside) = &action.target {
        check_outside(action, outside, catalog, out);
        return;
    }
    let table = catalog.table(name);
    let is_sink = catalog.connector(name).is_some();
    let wants_table = matches!(action.target, Target::Item(_)) || &*action.kind == "dynamoDBv2";
    let wants_sink = &*action.kind == "firehose";
    match (table, is_sink) {
        (None, false) => out.push(unknown(action, name, wants_table, wants_sink, catalog)),
        (None, true) if wants_table => {
            let message = format!("{name} is a sink; the {} action writes into a table", action.kind);
            let help = "create a table with the key columns: CREATE TABLE … PRIMARY KEY (…)";
            out.push(Diagnostic::error("destination", action.span, message).help(help));
        }
        (Some(_), _) if wants_sink => {
            let message = format!("{name} is a table; the stream of a firehose action is a sink");
            let help = "create a sink, or use the dynamoDBv2 action";
            out.push(Diagnostic::error("destination", action.span, message).help(help));
        }
        (Some(table), _) => match (&action.target, rule) {
            (Target::Item(item), _) => check_item(action, item, &table, out),
            (_, Some(rule)) => check_row(action, rule, &table, out),
            (_, None) => {}
        },
        (None, true) => {}
    }
}

/// The sink of an action that sends something: it is there, or is made with the rule, and sends in that way.
fn check_outside(action: &Action, outside: &OutsideTarget, catalog: &dyn CatalogView, out: &mut Vec<Diagnostic>) {
    let OutsideTarget { sink, connector, definition, .. } = outside;
    if catalog.table(sink).is_some() {
        let message = format!("{sink} is a table; the {} action sends through a sink of that name", action.kind);
        out.push(Diagnostic::error("destination", action.span, message));
        return;
    }
    let create = || format!("create it: CREATE SINK {sink} WITH (connector = '{connector}', …)");
    match catalog.connector(sink) {
        Some(found) if *found == **connector => {}
        Some(found) => {
            let message =
                format!("{sink} is a sink of connector '{found}'; the {} action needs '{connector}'", action.kind);
            out.push(Diagnostic::error("destination", action.span, message));
        }
        None if definition.is_some() => {}
        None => {
            let names = catalog.names();
            let fits = |name: &&str| catalog.connector(name).is_some_and(|found| *found == **connector);
            let help =
                suggest::did_you_mean(sink, names.iter().map(String::as_str).filter(fits)).unwrap_or_else(create);
            out.push(Diagnostic::error("destination", action.span, format!("there is no sink {sink}")).help(help));
        }
    }
}

fn unknown(action: &Action, name: &str, wants_table: bool, wants_sink: bool, catalog: &dyn CatalogView) -> Diagnostic {
    let names = catalog.names();
    let kind = match (wants_table, wants_sink) {
        (true, _) => "table",
        (_, true) => "sink",
        _ => "table or sink",
    };
    let fits = |candidate: &&str| {
        (!wants_table || catalog.table(candidate).is_some()) && (!wants_sink || catalog.connector(candidate).is_some())
    };
    let help =
        suggest::did_you_mean(name, names.iter().map(String::as_str).filter(fits)).unwrap_or_else(|| match kind {
            "table" => format!("create it: CREATE TABLE {name} (id VARCHAR, PRIMARY KEY (id))"),
            "sink" => format!("create it: CREATE SINK {name} WITH (connector = 'lake', path = '…')"),
            _ => format!("create it with CREATE TABLE {name} … or CREATE SINK {name} …"),
        });
    Diagnostic::error("destination", action.span, format!("there is no {kind} {name}")).help(help)
}

/// `get_dynamodb(table, hash column, value[, range column, value], role)`: the columns must be the table's key.
fn check_lookup(call: &Call<'_>, catalog: &dyn CatalogView, out: &mut Vec<Diagnostic>) {
    let Some(name) = call.text(0) else { return };
    let span = call.args.first().map_or(call.expr.span, |arg| arg.span);
    let Some(table) = catalog.table(name) else {
        let names = catalog.names();
        let tables = names.iter().map(String::as_str).filter(|candidate| catalog.table(candidate).is_some());
        let help = suggest::did_you_mean(name, tables)
            .unwrap_or_else(|| format!("create it: CREATE TABLE {name} (id VARCHAR, PRIMARY KEY (id))"));
        out.push(Diagnostic::error("lookup", span, format!("there is no table {name}")).help(help));
        return;
    };
    let key = match &table.range {
        Some(range) => format!("{}, {range}", table.hash),
        None => table.hash.to_string(),
    };
    if (call.args.len() == 6) != table.range.is_some() {
        let message =
            format!("the key of table {name} is ({key}): get_dynamodb needs each of its columns with a value");
        let role = "the last argument is the role, for which any text will do";
        out.push(Diagnostic::error("lookup", call.expr.span, message).help(role));
        return;
    }
    for (place, column) in [(1, Some(&table.hash)), (3, table.range.as_ref())] {
        if let (Some(given), Some(column)) = (call.text(place), column)
            && given != column
        {
            let span = call.args.get(place).map_or(call.expr.span, |arg| arg.span);
            let message = format!("`{given}` is not the key of table {name}, which is ({key})");
            out.push(Diagnostic::error("lookup", span, message).help(format!("write '{column}'")));
        }
    }
}

/// The `dynamoDB` action names the key columns itself: they must be the table's.
fn check_item(action: &Action, item: &ItemTarget, table: &TableDef, out: &mut Vec<Diagnostic>) {
    let mut wrong = |message: String, help: String| {
        out.push(Diagnostic::error("key", action.span, message).help(help));
    };
    let name = &table.name;
    let key = |key: &KeyTemplate, column: &str, parameter: &str, wrong: &mut dyn FnMut(String, String)| {
        if &*key.field != column {
            let message = format!("{parameter} is `{}`, but the key of table {name} is `{column}`", key.field);
            wrong(message, format!("write \"{parameter}\": \"{column}\""));
            return;
        }
        let ty = table.columns.iter().find(|declared| &*declared.name == column).map(|declared| declared.ty);
        let is_number = !matches!(ty, Some(ColumnType::Varchar | ColumnType::Boolean) | None);
        // A number can be read from the text of a template; a text column given a number is a different key.
        if key.number && !is_number {
            let message = format!("`{column}` of table {name} is no number");
            wrong(message, "leave out the key type, or declare the column BIGINT, DOUBLE or DECIMAL".into());
        }
    };
    key(&item.hash, &table.hash, "hashKeyField", &mut wrong);
    match (&item.range, &table.range) {
        (Some(range), Some(column)) => key(range, column, "rangeKeyField", &mut wrong),
        (None, Some(column)) => {
            let help = format!("add \"rangeKeyField\": \"{column}\" and \"rangeKeyValue\"");
            wrong(format!("table {name} has the range key `{column}`, which the action does not give"), help);
        }
        (Some(range), None) => {
            let help = format!("leave it out, or create the table with PRIMARY KEY ({}, {})", table.hash, range.field);
            wrong(format!("table {name} has no range key"), help);
        }
        (None, None) => {}
    }
    if let Some(column) = item.payload_field.as_constant()
        && (*column == *table.hash || table.range.as_deref() == Some(column))
    {
        let message = format!("the result would overwrite the key column `{column}`");
        wrong(message, "choose another payloadField".into());
    }
}

/// A row into a table must hold the key columns, as far as that can be known: `*` may bring anything.
fn check_row(action: &Action, rule: &Rule, table: &TableDef, out: &mut Vec<Diagnostic>) {
    let names: Vec<(&str, bool)> = match &rule.select.items {
        Items::List(items) => {
            if items.iter().any(|item| item.alias.is_none()) {
                return;
            }
            items.iter().filter_map(|item| item.alias.as_deref()).filter_map(first_name).collect()
        }
        Items::Value(expr) => match &expr.kind {
            ExprKind::Object(members) => members.iter().map(|(name, _)| (&**name, false)).collect(),
            ExprKind::Literal(_) | ExprKind::Array(_) => {
                let message = format!("table {} takes objects, and this is a bare value", table.name);
                out.push(Diagnostic::error("key", action.span, message).help("select columns by name, without VALUE"));
                return;
            }
            _ => return,
        },
    };
    misspelt_columns(&names, rule, table, out);
    for column in [Some(&table.hash), table.range.as_ref()].into_iter().flatten() {
        match names.iter().find(|(name, _)| *name == &**column) {
            Some((_, false)) => {}
            Some((_, true)) => {
                let message = format!("`{column}`, a key of table {}, would be an object", table.name);
                out.push(Diagnostic::error("key", action.span, message).help("a key is a text, a number or a boolean"));
            }
            None => {
                let message = format!("the row has no `{column}`, which is a key of table {}", table.name);
                let near = suggest::nearest(column, names.iter().map(|&(name, _)| name));
                let help = match near {
                    Some(near) => format!("`{near}` comes near: select it AS {column}"),
                    None => format!("select it: … AS {column}"),
                };
                out.push(Diagnostic::error("key", action.span, message).help(help));
            }
        }
    }
}

/// A member that is no column, but nearly one that the row does not fill.
fn misspelt_columns(names: &[(&str, bool)], rule: &Rule, table: &TableDef, out: &mut Vec<Diagnostic>) {
    let columns = || table.columns.iter().map(|column| &*column.name);
    let free = || columns().filter(|column| names.iter().all(|(name, _)| name != column));
    for (name, _) in names.iter().filter(|(name, _)| columns().all(|column| column != *name)) {
        let Some(near) = suggest::nearest(name, free()) else { continue };
        let span = item_span(rule, name);
        let message = format!("table {} has no column `{name}`: the value goes to its column _rest", table.name);
        out.push(Diagnostic::warning("unknown-column", span, message).help(format!("did you mean `{near}`?")));
    }
}

/// Where the rule makes the member of that name.
fn item_span(rule: &Rule, name: &str) -> Span {
    let of_list = |items: &[Item]| {
        let item = items.iter().find(|item| matches!(item.alias.as_deref(), Some([first, ..]) if &**first == name));
        item.map(|item| item.expr.span)
    };
    match &rule.select.items {
        Items::List(items) => of_list(items).unwrap_or_default(),
        Items::Value(expr) => expr.span,
    }
}

/// The column that an alias fills, and whether it fills only a part of it.
fn first_name(alias: &[Arc<str>]) -> Option<(&str, bool)> {
    alias.first().map(|name| (&**name, alias.len() > 1))
}
