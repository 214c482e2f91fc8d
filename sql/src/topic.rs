//! Topics and topic filters as the MQTT standard defines them.

use std::sync::Arc;

/// A checked topic filter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TopicFilter(Arc<str>);
