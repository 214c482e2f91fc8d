//! The predicate index: of many rules that test one thing for equality, a row goes only to those whose value it has.
//!
//! WHERE holds only if each side of its ANDs is true, in every dialect, and `=` is true only of equal values of one
//! kind. So a rule with `type = 'x17'` among its conditions need not look at rows whose `type` is not the text `x17`, and
//! need not test that again for those whose is. Nothing else changes: counters of messages and of Undefined paths do not
//! come from here. One thing is not told: what the other conditions would have failed at on a row that is ruled out.

use std::sync::Arc;

use ahash::AHashMap;

use super::columns::split;
use super::paths::{anywhere, exprs};
use crate::ast::{BinaryOp, Expr, ExprKind};
use crate::functions::{self, Purity};
use crate::lower::{Batch, Comparison, Logic, Resolver, Source, Term, text_of};
use crate::rule::Rule;
use crate::shred::{Paths, Tag, cell_value};
use crate::value::Value;

/// With fewer rules that test a source for equality, testing them one after the other costs no more.
const MIN_RULES: usize = 4;
/// Values of one condition that make entries of their own.
const MAX_VALUES: usize = 32;

/// What a row may have at a source, such that equal values, and no others, are equal here.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    Text(Box<str>),
    /// Mantissa and scale without zeros at the end.
    Number(i128, i32),
    Bool(bool),
}

/// The condition of a rule that stands in the index.
#[derive(Debug)]
struct Test {
    source: Source,
    /// Its place among the conditions.
    condition: usize,
    keys: Vec<Key>,
}

/// The rules of a program by the values they ask for.
#[derive(Debug, Default)]
pub(super) struct Index {
    sources: Vec<BySource>,
    /// For each rule, the condition that the index stands for.
    conditions: Vec<Option<usize>>,
    /// The rows that the rules named in `touched` have to look at, by rule.
    selected: Vec<Vec<u32>>,
    touched: Vec<usize>,
}

#[derive(Debug)]
struct BySource {
    source: Source,
    texts: AHashMap<Box<str>, Vec<u32>>,
    numbers: AHashMap<(i128, i32), Vec<u32>>,
    /// FALSE and TRUE.
    bools: [Vec<u32>; 2],
}

impl Index {
    pub(super) fn new(rules: &[Arc<Rule>], paths: &mut Paths) -> Self {
        let mut tests: Vec<Vec<Test>> = rules.iter().map(|rule| tests(rule, paths)).collect();
        let mut popular: Vec<(Source, usize, Vec<&Key>)> = Vec::new();
        for test in tests.iter().flatten() {
            let place = popular.iter().position(|(source, ..)| *source == test.source).unwrap_or_else(|| {
                popular.push((test.source.clone(), 0, Vec::new()));
                popular.len() - 1
            });
            if let Some((_, rules, keys)) = popular.get_mut(place) {
                *rules += 1;
                keys.extend(&test.keys);
            }
        }
        // How many rules test a source, and how many values they tell apart.
        let spread: Vec<(Source, usize)> = popular
            .into_iter()
            .filter(|(_, rules, _)| *rules >= MIN_RULES)
            .map(|(source, _, keys)| (source, keys.into_iter().collect::<ahash::AHashSet<_>>().len()))
            .collect();
        let mut index = Self { selected: vec![Vec::new(); rules.len()], ..Self::default() };
        for (rule, tests) in tests.iter_mut().enumerate() {
            let values =
                |test: &Test| spread.iter().find(|(source, _)| *source == test.source).map(|(_, values)| *values);
            let best = (0..tests.len()).max_by_key(|place| (tests.get(*place).and_then(values), usize::MAX - place));
            let best = best.map(|place| tests.swap_remove(place)).filter(|test| values(test).is_some());
            index.conditions.push(best.as_ref().map(|test| test.condition));
            if let Some(test) = best {
                index.insert(rule as u32, test);
            }
        }
        index
    }

    fn insert(&mut self, rule: u32, test: Test) {
        let place = self.sources.iter().position(|by| by.source == test.source).unwrap_or_else(|| {
            let (texts, numbers) = (AHashMap::new(), AHashMap::new());
            self.sources.push(BySource { source: test.source, texts, numbers, bools: Default::default() });
            self.sources.len() - 1
        });
        let Some(by) = self.sources.get_mut(place) else { return };
        for key in test.keys {
            let rules = match key {
                Key::Text(text) => by.texts.entry(text).or_default(),
                Key::Number(mantissa, scale) => by.numbers.entry((mantissa, scale)).or_default(),
                Key::Bool(flag) => {
                    let [no, yes] = &mut by.bools;
                    if flag { yes } else { no }
                }
            };
            if rules.last() != Some(&rule) {
                rules.push(rule);
            }
        }
    }

    /// The place of the condition that the index stands for, among the rule's conditions.
    pub(super) fn condition(&self, rule: usize) -> Option<usize> {
        self.conditions.get(rule).copied().flatten()
    }

    /// No rule is in it.
    pub(super) fn is_empty(&self) -> bool {
        self.sources.is_empty()
    }

    /// Finds the rows of a batch for each rule in the index.
    pub(super) fn select(&mut self, batch: &Batch<'_>) {
        for rule in self.touched.drain(..) {
            self.selected.get_mut(rule).into_iter().for_each(Vec::clear);
        }
        for by in &self.sources {
            for row in batch.shredder.all_rows() {
                for rule in by.rules(batch, *row) {
                    let Some(rows) = self.selected.get_mut(*rule as usize) else { continue };
                    if rows.is_empty() {
                        self.touched.push(*rule as usize);
                    }
                    rows.push(*row);
                }
            }
        }
    }

    /// The rules that have rows to look at.
    pub(super) fn touched(&self) -> impl Iterator<Item = (usize, &Vec<u32>)> {
        self.touched.iter().filter_map(|rule| Some((*rule, self.selected.get(*rule)?)))
    }
}

impl BySource {
    /// The rules that ask for what a row has.
    fn rules(&self, batch: &Batch<'_>, row: u32) -> &[u32] {
        let rules = match &self.source {
            Source::Path(slot) => return self.of_cell(usize::from(*slot), batch, row),
            source => {
                let message = batch.messages.get(row as usize);
                message.and_then(|message| text_of(source, message)).and_then(|text| self.texts.get(text))
            }
        };
        rules.map_or(&[], Vec::as_slice)
    }

    fn of_cell(&self, slot: usize, batch: &Batch<'_>, row: u32) -> &[u32] {
        let cell = batch.shredder.cell(slot, row);
        let payload = || batch.messages.get(row as usize).map(|message| message.payload).unwrap_or_default();
        let [no, yes] = &self.bools;
        let rules = match cell.tag {
            Tag::String | Tag::EscapedString => self.texts.get(&*cell.text(payload())),
            Tag::Number | Tag::NumberZeroEnd => {
                self.numbers.get(&stripped(i128::from(cell.value), i32::from(cell.scale)))
            }
            Tag::WideNumber => match key_of(&cell_value(&cell, payload(), batch.dialect)) {
                Some(Key::Number(mantissa, scale)) => self.numbers.get(&(mantissa, scale)),
                _ => None,
            },
            Tag::False => Some(no),
            Tag::True => Some(yes),
            Tag::Undefined | Tag::Null | Tag::Array | Tag::Object => None,
        };
        rules.map_or(&[], Vec::as_slice)
    }
}

/// The conditions of a rule that could stand in an index.
fn tests(rule: &Rule, paths: &mut Paths) -> Vec<Test> {
    let calls_out = |expr: &Expr| match &expr.kind {
        ExprKind::Call { function, .. } => {
            functions::lookup(function).is_none_or(|function| function.purity == Purity::External)
        }
        _ => false,
    };
    if exprs(rule).into_iter().any(|expr| anywhere(expr, &calls_out)) {
        return Vec::new();
    }
    let mut conditions = Vec::new();
    rule.select.filter.iter().for_each(|filter| split(filter, &mut conditions));
    let mut resolver = Resolver::new(rule.dialect, Default::default(), paths);
    let tests = conditions.into_iter().enumerate().filter_map(|(condition, expr)| {
        let mut sources = Vec::new();
        let (source, values) = match as_membership(expr) {
            Some((of, values)) => (resolver.resolve(of, &mut sources).ok()?, values),
            None => {
                let term = resolver.resolve(expr, &mut sources).ok()?;
                let (mut source, mut values) = (None, Vec::new());
                equalities(&term, &mut source, &mut values)?;
                (Term::Source(source?), values)
            }
        };
        let Term::Source(number) = source else { return None };
        let source = sources.into_iter().nth(number)?;
        let keys: Vec<Key> = values.iter().map(key_of).collect::<Option<_>>()?;
        let fits = matches!(source, Source::Path(_) | Source::Topic | Source::TopicLevel(_) | Source::ClientId);
        (fits && !keys.is_empty() && keys.len() <= MAX_VALUES).then_some(Test { source, condition, keys })
    });
    tests.collect()
}

/// `x IN ['a', 'b']`.
fn as_membership(expr: &Expr) -> Option<(&Expr, Vec<Value>)> {
    let ExprKind::Binary { op: BinaryOp::In, left, right } = &expr.kind else { return None };
    let ExprKind::Array(elements) = &right.kind else { return None };
    let values = elements.iter().map(|element| match &element.kind {
        ExprKind::Literal(value) => Some(value.clone()),
        _ => None,
    });
    Some((left, values.collect::<Option<_>>()?))
}

/// One equality of a source with a literal, or several of the same source joined by OR.
fn equalities(term: &Term, source: &mut Option<usize>, values: &mut Vec<Value>) -> Option<()> {
    match term {
        Term::Compare(Comparison::Eq, left, right) => {
            let ((Term::Source(number), Term::Literal(value)) | (Term::Literal(value), Term::Source(number))) =
                (&**left, &**right)
            else {
                return None;
            };
            if *source.get_or_insert(*number) != *number {
                return None;
            }
            values.push(value.clone());
            Some(())
        }
        Term::Logic(Logic::Or | Logic::StrictOr, left, right) => {
            equalities(left, source, values)?;
            equalities(right, source, values)
        }
        _ => None,
    }
}

fn key_of(value: &Value) -> Option<Key> {
    match value {
        Value::String(text) => Some(Key::Text((**text).into())),
        Value::Bool(flag) => Some(Key::Bool(*flag)),
        Value::Int(number) => {
            let (mantissa, scale) = stripped(*number, 0);
            Some(Key::Number(mantissa, scale))
        }
        Value::Decimal(number) => {
            let (mantissa, scale) = stripped(number.mantissa(), number.scale());
            Some(Key::Number(mantissa, scale))
        }
        _ => None,
    }
}

/// Numbers are equal if these are.
fn stripped(mut mantissa: i128, mut scale: i32) -> (i128, i32) {
    if mantissa == 0 {
        return (0, 0);
    }
    if let Ok(mut small) = i64::try_from(mantissa) {
        while small % 10 == 0 {
            (small, scale) = (small / 10, scale - 1);
        }
        return (i128::from(small), scale);
    }
    while mantissa % 10 == 0 {
        (mantissa, scale) = (mantissa / 10, scale - 1);
    }
    (mantissa, scale)
}
