//! Route and evaluate: from a step to rows.
//!
//! Every worker has the whole catalog and all control records, and its own share of the clients. Topics are matched
//! once per distinct topic; messages whose topics match the same set of rules are evaluated together.

use std::collections::BTreeMap;
use std::sync::Arc;

use ahash::AHashMap;
use bytes::Bytes;
use hedgerow_sql::message::{Message, Properties};
use hedgerow_sql::program::{Calling, Face, Program, Rows, RuleRows};
use hedgerow_sql::rule::Rule;
use hedgerow_sql::topic::FilterTrie;
use hedgerow_storage::log::{Frame, Record, RecordKind};

use crate::catalog::{Catalog, ChangeSet};
use crate::error_action::{has_error_action, is_error_rule};
use crate::errors::{ErrorSample, Errors, excerpt};
use crate::metrics::ClassCounts;
use crate::operators::absence::{Watched, signals};
use crate::operators::call::{Ask, Called, KeptMessage};
use crate::operators::window::{Keyed, KeyedRow};
use crate::rows::{ActiveRule, Names, Origins, RowBatch};
use crate::step::{Step, worker_of};

/// Messages evaluated at once, at most.
const BATCH_ROWS: usize = 8_192;
/// Bytes of the distinct topics whose match a worker remembers, at most, each with what its entry costs.
const TOPIC_BYTES: usize = 32 << 20;
const TOPIC_ENTRY_BYTES: usize = 32;

/// Rules in all classes together, at most: filters that overlap in many ways could make a class of every topic.
const CLASS_RULES: usize = 1 << 16;

/// A publish below it goes to the rule named by the next level, and to no other.
const BASIC_INGEST: &str = "$aws/rules/";

/// What leaves the operator.
pub enum Out {
    /// Rows for sinks.
    Rows(RowBatch),
    /// Rows, or a change of rules, for the window operator.
    Keyed(Keyed),
    /// Signals, or a change of rules, for the absence operator.
    Watched(Watched),
    /// Rows of rules that ask other systems, or what they ask.
    Called(Called),
    /// What follows is of this time, which is later than the step's.
    Time(u64),
}

/// Who resolves names and opens sinks when the catalog changes.
pub trait Resolve {
    /// The rules of `catalog` that run, with their destinations; opens what is new, closes what is gone.
    fn resolve(&self, catalog: &Catalog, epoch: u64) -> Arc<Vec<Arc<ActiveRule>>>;
    /// A control record could not be followed.
    fn refuse(&self, epoch: u64, reason: &str);
}

/// The operator's state on one worker.
pub struct Evaluate<R> {
    worker: usize,
    workers: usize,
    catalog: Catalog,
    resolver: R,
    errors: Arc<Errors>,
    rules: Arc<Vec<Arc<ActiveRule>>>,
    trie: FilterTrie<usize>,
    /// Topic to class, and the programs of the classes.
    topics: AHashMap<Box<str>, usize>,
    topic_bytes: usize,
    classes: AHashMap<Vec<usize>, usize>,
    programs: Vec<Class>,
    /// Rules in all classes together.
    class_rules: usize,
    /// Each epoch is evaluated by itself, and has a time of its own: a rule looks up what rules that ask others write.
    single: bool,
}

/// All rules that match one set of topics.
struct Class {
    rules: Vec<usize>,
    /// The places in `rules` of those in the program, and of those that ask other systems.
    inside: Vec<usize>,
    asking: Vec<usize>,
    program: Program,
    counts: Arc<ClassCounts>,
    /// Indices into the segment's records.
    pending: Vec<usize>,
    /// A topic has come since the last change of the catalog.
    used: bool,
}

impl Class {
    fn new(rules: Vec<usize>, all: &[Arc<ActiveRule>]) -> Self {
        let active: Vec<&Arc<ActiveRule>> = rules.iter().filter_map(|rule| all.get(*rule)).collect();
        // Rules with AFTER that look up tables do so at the deadline.
        let now = |active: &&Arc<ActiveRule>| active.calling.is_some() && active.rule.select.absence.is_none();
        let asks = |place: &usize| active.get(*place).is_some_and(now);
        let (asking, inside): (Vec<usize>, Vec<usize>) = (0..active.len()).partition(asks);
        let of = |places: &[usize]| -> Vec<&Arc<ActiveRule>> {
            places.iter().filter_map(|place| active.get(*place)).copied().collect()
        };
        let parsed: Vec<_> = of(&inside).into_iter().map(|active| Arc::clone(&active.rule)).collect();
        let program = Program::new(&parsed);
        let mut paths = program.paths().to_vec();
        let calling: Vec<_> = of(&asking);
        paths.extend(calling.iter().filter_map(|active| active.calling.as_ref()).flat_map(Calling::paths));
        let counts = Arc::new(ClassCounts::new(&paths));
        for (place, active) in of(&inside).into_iter().enumerate() {
            active.stats.join(&counts, program.paths_of(place));
        }
        // The paths of those that ask follow, rule by rule.
        let mut from = program.paths().len();
        for active in calling {
            let own = active.calling.as_ref().map_or(0, |calling| calling.paths().count());
            active.stats.join(&counts, &(from..from + own).collect::<Vec<usize>>());
            from += own;
        }
        Self { rules, inside, asking, program, counts, pending: Vec::new(), used: true }
    }
}

impl Drop for Class {
    fn drop(&mut self) {
        self.counts.close();
    }
}

impl<R: Resolve> Evaluate<R> {
    /// The operator on worker `worker` of `workers`, starting with `catalog`.
    pub fn new(worker: usize, workers: usize, catalog: Catalog, resolver: R, errors: Arc<Errors>) -> Self {
        let rules = resolver.resolve(&catalog, 0);
        let mut evaluate = Self {
            worker,
            workers,
            catalog,
            resolver,
            errors,
            rules,
            trie: FilterTrie::default(),
            topics: AHashMap::new(),
            topic_bytes: 0,
            classes: AHashMap::new(),
            programs: Vec::new(),
            class_rules: 0,
            single: false,
        };
        evaluate.index(&[]);
        evaluate
    }

    /// The catalog as of the last step.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The rules in force.
    pub fn rules(&self) -> &Arc<Vec<Arc<ActiveRule>>> {
        &self.rules
    }

    /// Runs the step's records of this worker through the rules in force at their positions.
    pub fn step(&mut self, step: &Step, out: &mut Vec<Out>) {
        let mut segment: Vec<(u64, Record<'_>)> = Vec::new();
        for commit in &step.commits {
            let epoch = commit.epoch.0;
            if self.single {
                self.segment(&segment, out);
                segment.clear();
                out.push(Out::Time(epoch));
            }
            for frame in commit.frames() {
                match frame.kind() {
                    Some(RecordKind::Message) if self.is_mine(&frame) => {
                        segment.extend(frame.record().map(|record| (epoch, record)));
                    }
                    Some(RecordKind::Control) => {
                        let Some(record) = frame.record() else { continue };
                        // From here on epochs may have to be told apart, and this one begins before the change.
                        let earlier = segment.partition_point(|(of, _)| *of < epoch);
                        let (before, same) = segment.split_at(earlier);
                        self.segment(before, out);
                        out.push(Out::Time(epoch));
                        self.segment(same, out);
                        segment.clear();
                        self.control(epoch, &record, out);
                    }
                    _ => {}
                }
            }
        }
        self.segment(&segment, out);
    }

    /// Derived records have no client: their topic decides. Without rules nobody wants any.
    fn is_mine(&self, frame: &Frame<'_>) -> bool {
        let mine = |sender| worker_of(sender, self.workers) == self.worker;
        !self.rules.is_empty() && (self.workers == 1 || frame.sender().is_some_and(mine))
    }

    fn control(&mut self, epoch: u64, record: &Record<'_>, out: &mut Vec<Out>) {
        let applied = ChangeSet::decode(record.payload).and_then(|set| self.catalog.apply(&set, epoch));
        if let Err(error) = applied {
            self.resolver.refuse(epoch, &error.to_string());
            return;
        }
        let before = std::mem::replace(&mut self.rules, self.resolver.resolve(&self.catalog, epoch));
        self.index(&before);
        let (worker, position) = (self.worker as u64, (epoch, record.offset.0));
        out.push(Out::Keyed(Keyed::Rules { worker, position, rules: Arc::clone(&self.rules) }));
        out.push(Out::Watched(Watched::Rules { worker, position, rules: Arc::clone(&self.rules) }));
    }

    /// Forgets all matches and indexes the rules in force by their filters. Classes none of whose rules has changed
    /// keep what they have compiled and learned.
    fn index(&mut self, before: &[Arc<ActiveRule>]) {
        self.trie = FilterTrie::default();
        self.forget_topics();
        self.single = self.rules.iter().any(|active| active.epochs_apart);
        let mut places: AHashMap<*const Rule, usize> = AHashMap::with_capacity(self.rules.len());
        for (index, active) in self.rules.iter().enumerate() {
            places.insert(Arc::as_ptr(&active.rule), index);
            if let Some(filter) = &active.rule.filter {
                self.trie.insert(filter, index);
            }
        }
        let place = |rule: &usize| places.get(&Arc::as_ptr(&before.get(*rule)?.rule)).copied();
        let classes = self.take_classes();
        for mut class in classes.into_iter().filter(|class| class.used) {
            let Some(rules) = class.rules.iter().map(place).collect::<Option<Vec<usize>>>() else { continue };
            class.rules = rules;
            class.used = false;
            self.keep(class);
        }
    }

    fn take_classes(&mut self) -> Vec<Class> {
        self.classes.clear();
        self.class_rules = 0;
        std::mem::take(&mut self.programs)
    }

    fn keep(&mut self, class: Class) -> usize {
        let place = self.programs.len();
        self.class_rules += class.rules.len() + 1;
        self.classes.insert(class.rules.clone(), place);
        self.programs.push(class);
        place
    }

    /// The class of a topic: the rules that match it, which may be none.
    fn class_of(&mut self, topic: &str) -> usize {
        if let Some(class) = self.topics.get(topic) {
            return *class;
        }
        let mut matching = Vec::new();
        match topic.strip_prefix(BASIC_INGEST).and_then(|rest| rest.split_once('/')) {
            Some((rule, _)) => {
                let is_meant = |active: &Arc<ActiveRule>| *active.rule.name == *rule && !is_error_rule(&active.rule);
                matching.extend(self.rules.iter().position(is_meant));
            }
            None => self.trie.visit(topic, |rule| matching.push(*rule)),
        }
        matching.sort_unstable();
        matching.dedup();
        let class = match self.classes.get(&matching) {
            Some(known) => *known,
            None => self.keep(Class::new(matching, &self.rules)),
        };
        if let Some(class) = self.programs.get_mut(class) {
            class.used = true;
        }
        let bytes = topic.len() + TOPIC_ENTRY_BYTES;
        if self.topic_bytes + bytes > TOPIC_BYTES {
            self.forget_topics();
        }
        self.topic_bytes += bytes;
        self.topics.insert(topic.into(), class);
        class
    }

    fn forget_topics(&mut self) {
        self.topics.clear();
        self.topic_bytes = 0;
    }

    /// Evaluates records between two changes of the catalog.
    fn segment(&mut self, segment: &[(u64, Record<'_>)], out: &mut Vec<Out>) {
        for (index, (_, record)) in segment.iter().enumerate() {
            if self.class_rules > CLASS_RULES.max(4 * self.rules.len()) {
                self.pending(segment, out);
                self.forget_topics();
                self.take_classes();
            }
            let class = self.class_of(record.topic);
            if let Some(class) = self.programs.get_mut(class)
                && !class.rules.is_empty()
            {
                class.pending.push(index);
            }
        }
        self.pending(segment, out);
    }

    /// Evaluates what the classes have been given.
    fn pending(&mut self, segment: &[(u64, Record<'_>)], out: &mut Vec<Out>) {
        let mut programs = std::mem::take(&mut self.programs);
        for class in programs.iter_mut().filter(|class| !class.pending.is_empty()) {
            let pending = std::mem::take(&mut class.pending);
            for batch in pending.chunks(BATCH_ROWS) {
                self.batch(class, segment, batch, out);
            }
            class.pending = pending;
            class.pending.clear();
        }
        self.programs = programs;
    }

    fn batch(&self, class: &mut Class, segment: &[(u64, Record<'_>)], batch: &[usize], out: &mut Vec<Out>) {
        let records: Vec<&(u64, Record<'_>)> = batch.iter().filter_map(|index| segment.get(*index)).collect();
        let messages: Vec<Message<'_>> = records.iter().map(|(epoch, record)| message(*epoch, record)).collect();
        let mut results = Vec::new();
        class.program.evaluate(&messages, &mut results);
        let mut origins = origins(&records, &results);
        if !origins.epoch.is_empty()
            && class.rules.iter().filter_map(|rule| self.rules.get(*rule)).any(|active| has_error_action(&active.rule))
        {
            origins.payload = records.iter().map(|(_, record)| Bytes::copy_from_slice(record.payload)).collect();
        }
        let origins = Arc::new(origins);
        let rule_at = |place: &usize| class.rules.get(*place).and_then(|rule| self.rules.get(*rule));
        let mut undefined = class.program.undefined().to_vec();
        for active in class.asking.iter().filter_map(rule_at) {
            undefined.extend(self.call(active, &messages, &records, out));
        }
        class.counts.add(records.len() as u64, &undefined);
        let mut watched: BTreeMap<usize, Vec<RuleRows>> = BTreeMap::new();
        for result in results {
            let Some(active) = class.inside.get(result.rule).and_then(rule_at) else { continue };
            self.count(active, &result, &records);
            if active.rule.select.absence.is_some() {
                watched.entry(result.rule).or_default().push(result);
            } else {
                emit(active, result.rows, &origins, out);
            }
        }
        for (rule, faces) in watched {
            let Some(active) = class.inside.get(rule).and_then(rule_at) else { continue };
            let refuse = |message: u32, reason: &str| self.refuse(active, message, reason, &records);
            let keep =
                |message: u32| records.get(message as usize).map(|(epoch, record)| KeptMessage::new(*epoch, record));
            let signals = signals(active, &faces, &origins, self.workers, &keep, refuse);
            out.extend(signals.into_iter().map(|signals| Out::Watched(Watched::Signals(signals))));
        }
    }

    /// Messages for a rule that asks other systems: most need an answer before there is a row. Returns in how many of
    /// them each path of the rule is Undefined.
    fn call(
        &self,
        active: &Arc<ActiveRule>,
        messages: &[Message<'_>],
        records: &[&(u64, Record<'_>)],
        out: &mut Vec<Out>,
    ) -> Vec<u64> {
        let Some(calling) = &active.calling else { return Vec::new() };
        let evaluated = calling.evaluate(messages, &[]);
        let mut origins = origins(records, &evaluated.rows);
        if !origins.epoch.is_empty() && has_error_action(&active.rule) {
            origins.payload = records.iter().map(|(_, record)| Bytes::copy_from_slice(record.payload)).collect();
        }
        let origins = &Arc::new(origins);
        for result in evaluated.rows {
            self.count(active, &result, records);
            emit(active, result.rows, origins, out);
        }
        for (message, request) in evaluated.requests {
            if let Some((epoch, record)) = records.get(message as usize) {
                let message = KeptMessage::new(*epoch, record);
                out.push(Out::Called(Called::Ask(Ask { rule: Arc::clone(active), message, request: Some(request) })));
            }
        }
        evaluated.undefined
    }

    fn refuse(&self, active: &ActiveRule, message: u32, reason: &str, records: &[&(u64, Record<'_>)]) {
        if let Some((epoch, record)) = records.get(message as usize) {
            active.stats.fail(1, reason);
            self.errors.push(sample(*epoch, record, &active.rule.name, reason));
        }
    }

    /// Counts what passed and what was refused.
    fn count(&self, active: &ActiveRule, result: &RuleRows, records: &[&(u64, Record<'_>)]) {
        for reject in &result.rejects {
            self.refuse(active, reject.message, &reject.reason, records);
        }
        if result.face == Face::Rows {
            active.stats.passed.add(result.rows.messages.len() as u64);
        }
    }
}

/// Rows on their way: to the window operator, or to the sinks.
fn emit(active: &Arc<ActiveRule>, rows: Rows, origins: &Arc<Origins>, out: &mut Vec<Out>) {
    if rows.messages.is_empty() {
        return;
    }
    if active.rule.windowed.is_some() {
        out.extend(keyed(active, &rows, origins).map(|row| Out::Keyed(Keyed::Row(row))));
        return;
    }
    let asks = active.calling.is_some();
    let batches = RowBatch::of_all_actions(active, rows, origins);
    out.extend(batches.map(|batch| if asks { Out::Called(Called::Rows(batch)) } else { Out::Rows(batch) }));
}

/// The rows of a windowed rule, taken apart into keys and arguments.
fn keyed<'a>(
    active: &'a Arc<ActiveRule>,
    rows: &'a Rows,
    origins: &'a Arc<Origins>,
) -> impl Iterator<Item = KeyedRow> + 'a {
    let keys = active.rule.windowed.as_ref().map(|windowed| windowed.keys.len()).unwrap_or_default();
    rows.messages.iter().enumerate().map(move |(row, message)| {
        let mut values = rows.values(row);
        let arguments = values.split_off(keys.min(values.len()));
        KeyedRow::new(Arc::clone(active), origins.position(*message), values, arguments)
    })
}

fn message<'a>(epoch: u64, record: &Record<'a>) -> Message<'a> {
    let (offset, record) = (record.offset.0, record.fields);
    let present = |text: &'a str| (!text.is_empty()).then_some(text);
    Message {
        client_id: present(record.client_id),
        principal: present(record.principal),
        source_ip: present(record.address),
        epoch,
        offset,
        properties: Properties::new(record.properties),
        ..Message::new(record.topic, record.payload, record.time_ms)
    }
}

/// Who the messages came from; of those without rows only their places.
fn origins(records: &[&(u64, Record<'_>)], results: &[RuleRows]) -> Origins {
    let mut origins = Origins::default();
    let most = results.iter().map(|result| result.rows.len()).max().unwrap_or(0);
    if most == 0 {
        return origins;
    }
    let mut has_rows = vec![most == records.len(); records.len()];
    for message in results.iter().filter(|_| most < records.len()).flat_map(|result| &result.rows.messages) {
        has_rows.get_mut(*message as usize).into_iter().for_each(|has| *has = true);
    }
    let bytes = |text: fn(&Record<'_>) -> usize| records.iter().map(|(_, record)| text(record)).sum();
    origins.topic = Names::with_capacity(records.len(), bytes(|record| record.topic.len()));
    origins.client_id = Names::with_capacity(records.len(), bytes(|record| record.client_id.len()));
    for ((epoch, record), has_rows) in records.iter().zip(has_rows) {
        origins.epoch.push(*epoch);
        origins.offset.push(record.offset.0);
        origins.time_ms.push(record.time_ms);
        origins.hops.push(record.hops);
        origins.topic.push(if has_rows { record.topic } else { "" });
        origins.client_id.push(if has_rows { record.client_id } else { "" });
    }
    origins
}

fn sample(epoch: u64, record: &Record<'_>, rule: &str, reason: &str) -> ErrorSample {
    ErrorSample {
        epoch,
        offset: record.offset.0,
        time_ms: record.time_ms,
        rule: rule.to_owned(),
        target: String::new(),
        topic: record.topic.to_owned(),
        client_id: record.client_id.to_owned(),
        reason: reason.to_owned(),
        sample: excerpt(record.payload),
    }
}
