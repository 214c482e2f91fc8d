//! What an expression can see: the message, the payload as read, variables, and the limits of its work.

use std::cell::{Cell, OnceCell, RefCell};
use std::sync::Arc;

use crate::ast::Dialect;
use crate::json::{self, JsonError};
use crate::message::Message;
use crate::value::Value;

/// Units of work one message may cause in one rule: about one for every node evaluated and every 64 bytes handled. A
/// second of one core at the worst, far beyond any sensible rule.
const MAX_STEPS: u64 = 8_000_000;
/// The work of compiling a pattern.
const STEPS_PER_PATTERN: u64 = 20_000;
/// Bytes of text made for a unit of work.
const BYTES_PER_STEP: u64 = 16;
/// How deeply expressions may nest: what the parser lets through. Chains of operators are not nesting here.
const MAX_NESTING: u32 = 256;
/// How many SET variables a statement may have: values can nest through them. The parser refuses more.
const MAX_VARIABLES: usize = crate::parse::MAX_VARIABLES;

/// Functions whose results come from outside of the message.
pub trait Externals {
    /// Calls one; the arguments are evaluated. The reason of a failure is shown to the user.
    fn call(&self, function: &str, args: &[Value]) -> Result<Value, String>;
}

/// No external function can be reached.
#[derive(Clone, Copy, Debug)]
pub struct NoExternals;

impl Externals for NoExternals {
    fn call(&self, _: &str, _: &[Value]) -> Result<Value, String> {
        Err("it is not available yet".to_owned())
    }
}

/// Why a rule ended without a row for this message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// An external function did not answer.
    #[error("{function}() failed: {reason}")]
    External {
        /// Its name.
        function: Arc<str>,
        /// What it said.
        reason: String,
    },
    /// A second call of `get_dynamodb`.
    #[error("get_dynamodb() may be called once per statement; keep its result in a SET variable")]
    SecondLookup,
    /// [`MAX_STEPS`].
    #[error("the expression takes too much work for this message; make nested queries or texts smaller")]
    Work,
    /// [`MAX_NESTING`].
    #[error("the expression is nested deeper than {MAX_NESTING} levels; use SET variables")]
    Nesting,
    /// [`MAX_VARIABLES`].
    #[error("more than {MAX_VARIABLES} SET variables")]
    Variables,
    /// The text of the row, or of an action's parameter, is beyond the limit.
    #[error("the row or an action's parameter is longer than {limit} bytes")]
    Length {
        /// The limit.
        limit: usize,
    },
}

impl Failure {
    /// The function that asks another system, if it was one that failed.
    pub fn function(&self) -> Option<Arc<str>> {
        match self {
            Self::External { function, .. } => Some(Arc::clone(function)),
            Self::SecondLookup => Some("get_dynamodb".into()),
            _ => None,
        }
    }
}

/// What the expressions of one rule see of one message.
pub struct Scope<'a> {
    message: &'a Message<'a>,
    dialect: Dialect,
    externals: &'a dyn Externals,
    slots: &'a [Value],
    payload: OnceCell<Result<Value, JsonError>>,
    variables: Vec<(Arc<str>, Value)>,
    failure: RefCell<Option<Failure>>,
    steps: Cell<u64>,
    nesting: Cell<u32>,
    serial: Cell<u64>,
    looked_up: Cell<bool>,
    patterns: RefCell<Vec<Arc<str>>>,
}

impl<'a> Scope<'a> {
    /// A scope without variables, slots and external functions.
    pub fn new(message: &'a Message<'a>, dialect: Dialect) -> Scope<'a> {
        Scope {
            message,
            dialect,
            externals: &NoExternals,
            slots: &[],
            payload: OnceCell::new(),
            variables: Vec::new(),
            failure: RefCell::new(None),
            steps: Cell::new(MAX_STEPS),
            nesting: Cell::new(0),
            serial: Cell::new(0),
            looked_up: Cell::new(false),
            patterns: RefCell::default(),
        }
    }

    /// With these external functions.
    pub fn with_externals(mut self, externals: &'a dyn Externals) -> Scope<'a> {
        self.externals = externals;
        self
    }

    /// With these values computed elsewhere (group keys and aggregates).
    pub fn with_slots(mut self, slots: &'a [Value]) -> Scope<'a> {
        self.slots = slots;
        self
    }

    /// With the payload already read.
    pub fn with_payload(self, payload: Result<Value, JsonError>) -> Scope<'a> {
        // A fresh scope has none yet.
        let _ = self.payload.set(payload);
        self
    }

    /// The message.
    pub fn message(&self) -> &'a Message<'a> {
        self.message
    }

    /// The dialect.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The payload as an object or array. Anything else counts as bytes: Undefined.
    pub fn payload(&self) -> Value {
        match self.read_payload() {
            Ok(value @ (Value::Object(_) | Value::Array(_))) => value.clone(),
            _ => Value::Undefined,
        }
    }

    /// A member of the payload.
    pub(crate) fn payload_member(&self, name: &str) -> Value {
        self.read_payload().as_ref().map_or(Value::Undefined, |value| value.member(name))
    }

    /// Why the payload is not JSON, if an expression asked for it and it is not.
    pub fn payload_error(&self) -> Option<JsonError> {
        self.payload.get().and_then(|payload| payload.as_ref().err()).copied()
    }

    fn read_payload(&self) -> &Result<Value, JsonError> {
        self.payload.get_or_init(|| json::parse(self.message.payload, self.dialect))
    }

    /// Sets a variable.
    pub(crate) fn set_variable(&mut self, name: Arc<str>, value: Value) {
        if self.variables.len() == MAX_VARIABLES {
            self.fail(Failure::Variables);
            return;
        }
        self.variables.push((name, value));
    }

    /// A variable's value.
    pub(crate) fn variable(&self, name: &str) -> Value {
        let found = self.variables.iter().rev().find(|(variable, _)| **variable == *name);
        found.map_or(Value::Undefined, |(_, value)| value.clone())
    }

    /// A slot's value.
    pub(crate) fn slot(&self, index: usize) -> Value {
        self.slots.get(index).cloned().unwrap_or_default()
    }

    /// Calls an external function; its failure ends the rule.
    pub(crate) fn external(&self, function: &str, args: &[Value]) -> Value {
        if function == "get_dynamodb" && self.looked_up.replace(true) {
            self.fail(Failure::SecondLookup);
            return Value::Undefined;
        }
        self.externals.call(function, args).unwrap_or_else(|reason| {
            self.fail(Failure::External { function: function.into(), reason });
            Value::Undefined
        })
    }

    /// A number that no other call for this rule and message gets: the seed of what shall differ from call to call.
    pub(crate) fn next_serial(&self) -> u64 {
        self.serial.replace(self.serial.get() + 1)
    }

    /// A template is a statement of its own.
    pub(crate) fn begin_template(&self) {
        self.looked_up.set(false);
    }

    /// Notes the first failure.
    pub(crate) fn fail(&self, failure: Failure) {
        self.failure.borrow_mut().get_or_insert(failure);
    }

    /// The failure, if there was one, and forgets it.
    pub fn take_failure(&self) -> Option<Failure> {
        self.failure.borrow_mut().take()
    }

    /// Pays for work; false when there is nothing left or the rule has failed already.
    pub(crate) fn charge(&self, units: u64) -> bool {
        match self.steps.get().checked_sub(units) {
            Some(left) => {
                self.steps.set(left);
                true
            }
            None => {
                // Nothing more is looked at, not even what it would cost.
                self.steps.set(0);
                self.fail(Failure::Work);
                false
            }
        }
    }

    /// Pays for compiling a pattern, once for each: whether it was compiled for an earlier message must not matter.
    pub(crate) fn charge_pattern(&self, pattern: &Value) -> bool {
        let Value::String(pattern) = pattern else { return true };
        let mut known = self.patterns.borrow_mut();
        let free = known.iter().any(|known| known == pattern);
        let paid = free || self.charge(STEPS_PER_PATTERN);
        if paid && !free {
            known.push(Arc::clone(pattern));
        }
        paid
    }

    /// Pays for a value that was made: memory is bounded by the same measure as time.
    pub(crate) fn made(&self, value: Value) -> Value {
        let bytes = if let Value::String(text) = &value { text.len() as u64 } else { 0 };
        if self.charge(bytes / BYTES_PER_STEP) { value } else { Value::Undefined }
    }

    /// Goes one level deeper while `inner` runs.
    pub(crate) fn nested(&self, inner: impl FnOnce() -> Value) -> Value {
        let depth = self.nesting.get();
        if depth == MAX_NESTING {
            self.fail(Failure::Nesting);
            return Value::Undefined;
        }
        self.nesting.set(depth + 1);
        let value = inner();
        self.nesting.set(depth);
        value
    }
}
