//! The catalog: which tables, sinks and rules exist at a position of the log.
//!
//! It changes only through control records of the log, so that a message is judged by the rules in force at its
//! position, also when it is replayed. Secrets are never in it: statements name them.
//!
//! # Format of a control record's payload
//! JSON: `{"version": 1, "owner": …, "changes": [{"op": "put", "kind": "rule", "name": …, "form": "native", "text": …},
//! {"op": "drop", "kind": …, "name": …}, {"op": "enable", "name": …, "enabled": …}]}`. One record is one atomic change.
//! An unknown version or operation refuses the start.

use std::collections::BTreeMap;
use std::sync::Arc;

use hedgerow_sql::rule::{ObjectKind, Rule, SinkDef, Statement, TableDef};
use serde::{Deserialize, Serialize};

/// The version of the control record's format.
const VERSION: u16 = 1;

/// An atomic change of the catalog: the payload of one control record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChangeSet {
    version: u16,
    /// Who applies it: `folder` for the rules folder, `api` for anybody else. Objects belong to who put them.
    pub owner: String,
    /// The changes in order.
    pub changes: Vec<Change>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
pub enum Change {
    /// Creates or replaces.
    Put {
        /// Kind.
        kind: Kind,
        /// Name.
        name: String,
        /// How `text` is to be read.
        form: Form,
        /// The statement or document.
        text: String,
    },
    /// Drops; a table's data goes with it.
    Drop {
        /// Kind.
        kind: Kind,
        /// Name.
        name: String,
    },
    /// Enables or disables a rule without touching its text.
    Enable {
        /// The rule's name.
        name: String,
        /// Whether it runs.
        enabled: bool,
    },
}

/// The kinds of objects, as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A key-value table.
    Table,
    /// A sink.
    Sink,
    /// A rule.
    Rule,
}

impl From<ObjectKind> for Kind {
    fn from(kind: ObjectKind) -> Self {
        match kind {
            ObjectKind::Table => Kind::Table,
            ObjectKind::Sink => Kind::Sink,
            ObjectKind::Rule => Kind::Rule,
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Kind::Table => "table",
            Kind::Sink => "sink",
            Kind::Rule => "rule",
        })
    }
}

/// The language a text is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// One statement of a native `.sql` file.
    Native,
    /// An AWS rule document.
    Document,
}

impl ChangeSet {
    /// A change by `owner`.
    pub fn new(owner: &str, changes: Vec<Change>) -> Self {
        Self { version: VERSION, owner: owner.to_owned(), changes }
    }

    /// The bytes of the control record.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads a control record.
    ///
    /// # Errors
    /// When the payload is not a change set of this version.
    pub fn decode(payload: &[u8]) -> Result<Self, CatalogError> {
        let set: Self = serde_json::from_slice(payload).map_err(CatalogError::Unreadable)?;
        if set.version == VERSION { Ok(set) } else { Err(CatalogError::Version(set.version)) }
    }
}

/// Why a control record cannot be followed. Each refuses the start: skipping one would change every later result.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// Not a change set.
    #[error("a control record of the log cannot be read ({0}): it was written by another version of Hedgerow")]
    Unreadable(#[source] serde_json::Error),
    /// A newer format.
    #[error("a control record of the log has format {0}, this Hedgerow reads format {VERSION}: start the newer one")]
    Version(u16),
    /// A text that this version does not accept.
    #[error("the {kind} {name:?} in the catalog is not accepted by this version of Hedgerow: {reason}")]
    Text {
        /// Kind.
        kind: Kind,
        /// Name.
        name: String,
        /// The first diagnostic.
        reason: String,
    },
}

/// A named object.
#[derive(Clone, Debug)]
pub struct Object {
    /// Its text.
    pub text: Arc<str>,
    /// The language of the text.
    pub form: Form,
    /// Who put it.
    pub owner: Arc<str>,
    /// The epoch that put this text.
    pub since: u64,
    /// False: disabled by `Enable` or by `ruleDisabled`.
    pub enabled: bool,
    /// Of a table: a rule that asks other systems writes it, or once wrote it. Its rows come on the called lane for good,
    /// since the order of two lanes cannot be told.
    pub called: bool,
    /// The text, parsed.
    pub definition: Definition,
}

impl Object {
    /// The rule, if it is one.
    pub fn rule(&self) -> Option<&Arc<Rule>> {
        match &self.definition {
            Definition::Rule(rule) => Some(rule),
            _ => None,
        }
    }
}

/// A parsed text.
#[derive(Clone, Debug)]
pub enum Definition {
    /// A table.
    Table(Arc<TableDef>),
    /// A sink.
    Sink(Arc<SinkDef>),
    /// A rule.
    Rule(Arc<Rule>),
}

/// The objects in force, by kind and name.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    objects: BTreeMap<(Kind, Arc<str>), Object>,
}

/// The stored form of one object, in checkpoints.
#[derive(Serialize, Deserialize)]
struct Stored {
    kind: Kind,
    name: String,
    form: Form,
    text: String,
    owner: String,
    since: u64,
    enabled: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    called: bool,
}

impl Catalog {
    /// Applies the change of the control record at `epoch`.
    ///
    /// # Errors
    /// When a text is not accepted; the catalog is then unchanged.
    pub fn apply(&mut self, set: &ChangeSet, epoch: u64) -> Result<(), CatalogError> {
        let mut next = self.objects.clone();
        for change in &set.changes {
            match change {
                Change::Put { kind, name, form, text } => {
                    let definition = parse(*kind, name, *form, text)?;
                    let enabled = !matches!(&definition, Definition::Rule(rule) if !rule.enabled);
                    let object = Object {
                        text: text.as_str().into(),
                        form: *form,
                        owner: set.owner.as_str().into(),
                        since: epoch,
                        enabled,
                        called: next.get(&(*kind, name.as_str().into())).is_some_and(|was| was.called),
                        definition,
                    };
                    next.insert((*kind, name.as_str().into()), object);
                }
                Change::Drop { kind, name } => {
                    next.remove(&(*kind, name.as_str().into()));
                }
                Change::Enable { name, enabled } => {
                    if let Some(object) = next.get_mut(&(Kind::Rule, name.as_str().into())) {
                        object.enabled = *enabled;
                    }
                }
            }
        }
        self.objects = next;
        self.note_called();
        Ok(())
    }

    /// Marks the tables that rules in force write after having asked other systems.
    fn note_called(&mut self) {
        let asking = self.active_rules().filter(|rule| rule.asks()).map(Arc::clone).collect::<Vec<_>>();
        let targets = asking.iter().flat_map(|rule| &rule.actions).filter_map(|action| action.destination());
        for name in targets {
            if let Some(table) = self.objects.get_mut(&(Kind::Table, Arc::clone(name))) {
                table.called = true;
            }
        }
    }

    /// The object of that kind and name.
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Object> {
        self.objects.get(&(kind, name.into()))
    }

    /// All objects, by kind and name.
    pub fn iter(&self) -> impl Iterator<Item = (Kind, &Arc<str>, &Object)> {
        self.objects.iter().map(|((kind, name), object)| (*kind, name, object))
    }

    /// The tables.
    pub fn tables(&self) -> impl Iterator<Item = &Arc<TableDef>> {
        self.objects.values().filter_map(|object| match &object.definition {
            Definition::Table(table) => Some(table),
            _ => None,
        })
    }

    /// The sinks.
    pub fn sinks(&self) -> impl Iterator<Item = &Arc<SinkDef>> {
        self.objects.values().filter_map(|object| match &object.definition {
            Definition::Sink(sink) => Some(sink),
            _ => None,
        })
    }

    /// The rules that run, by name.
    pub fn active_rules(&self) -> impl Iterator<Item = &Arc<Rule>> {
        self.objects.values().filter(|object| object.enabled).filter_map(|object| match &object.definition {
            Definition::Rule(rule) => Some(rule),
            _ => None,
        })
    }

    /// The bytes of this catalog in a checkpoint: a JSON array of objects.
    pub fn encode(&self) -> Vec<u8> {
        let stored: Vec<Stored> = self
            .objects
            .iter()
            .map(|((kind, name), object)| Stored {
                kind: *kind,
                name: name.to_string(),
                form: object.form,
                text: object.text.to_string(),
                owner: object.owner.to_string(),
                since: object.since,
                enabled: object.enabled,
                called: object.called,
            })
            .collect();
        serde_json::to_vec(&stored).unwrap_or_default()
    }

    /// Reads a catalog out of a checkpoint.
    ///
    /// # Errors
    /// When it is not one, or a text is not accepted by this version.
    pub fn decode(bytes: &[u8]) -> Result<Self, CatalogError> {
        let stored: Vec<Stored> = serde_json::from_slice(bytes).map_err(CatalogError::Unreadable)?;
        let mut catalog = Self::default();
        for object in stored {
            let definition = parse(object.kind, &object.name, object.form, &object.text)?;
            let key = (object.kind, object.name.as_str().into());
            let object = Object {
                text: object.text.into(),
                form: object.form,
                owner: object.owner.into(),
                since: object.since,
                enabled: object.enabled,
                called: object.called,
                definition,
            };
            catalog.objects.insert(key, object);
        }
        Ok(catalog)
    }
}

/// Parses the text of one object.
fn parse(kind: Kind, name: &str, form: Form, text: &str) -> Result<Definition, CatalogError> {
    let statements = match form {
        Form::Native => hedgerow_sql::parse::parse_file(text),
        Form::Document => hedgerow_sql::parse::parse_document(name, text).map(|rule| vec![Statement::Rule(rule)]),
    };
    let refuse = |reason: String| CatalogError::Text { kind, name: name.to_owned(), reason };
    let statements = statements.map_err(|diagnostics| {
        refuse(diagnostics.first().map(|first| first.message.to_string()).unwrap_or_default())
    })?;
    match (kind, statements.into_iter().next()) {
        (Kind::Table, Some(Statement::Table(table))) => Ok(Definition::Table(Arc::new(table))),
        (Kind::Sink, Some(Statement::Sink(sink))) => Ok(Definition::Sink(Arc::new(sink))),
        (Kind::Rule, Some(Statement::Rule(rule))) => Ok(Definition::Rule(Arc::new(rule))),
        _ => Err(refuse(format!("the text does not create a {kind}"))),
    }
}
