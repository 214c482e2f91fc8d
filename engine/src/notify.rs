//! Named topics: a rule that writes into one publishes derived records for the rules that subscribe to it (see
//! [`hedgerow_sql::notify`]).

use std::sync::Arc;

use hedgerow_sql::ast::Template;
use hedgerow_sql::notify::{self, CONNECTOR};
use hedgerow_sql::outside::FORMAT;
use hedgerow_sql::rule::{Action, Rule, Target};

use crate::catalog::{Catalog, Definition, Kind};

/// The rule with its actions on topics as what they are: records on the topic's own MQTT topic.
pub(crate) fn publishing(catalog: &Catalog, rule: &Arc<Rule>) -> Arc<Rule> {
    if !rule.actions.iter().any(|action| published(catalog, action).is_some()) {
        return Arc::clone(rule);
    }
    let mut publishing = Rule::clone(rule);
    for action in &mut publishing.actions {
        if let Some(topic) = published(catalog, action) {
            let topic = Template::constant(topic);
            action.target = Target::Topic { topic, qos: 1, retain: false, headers: Box::default() };
        }
    }
    Arc::new(publishing)
}

/// Where an action publishes to, if its sink is a topic.
fn published(catalog: &Catalog, action: &Action) -> Option<String> {
    let (sink, by_protocol) = match &action.target {
        Target::Named(name) => (name, false),
        Target::Outside(outside) => (&outside.sink, outside.parameters.iter().any(|one| &*one.name == FORMAT)),
        _ => return None,
    };
    is_topic(catalog, sink).then(|| notify::topic(sink, by_protocol))
}

fn is_topic(catalog: &Catalog, sink: &str) -> bool {
    match catalog.get(Kind::Sink, sink).map(|object| &object.definition) {
        Some(Definition::Sink(sink)) => &*sink.connector == CONNECTOR,
        _ => false,
    }
}
