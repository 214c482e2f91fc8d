//! The one static dataflow, and a worker's loop around it.
//!
//! `input → evaluate ─┬─ rows ──────────────┬→ deliver → probe`
//! `                  ├─ keyed → window ────┤      ┊`
//! `                  ├─ watched → absence ─┘      ┊`
//! `                  │              └─ asked ┐    ┊`
//! `                  └─ called ──────────────┴→ call → deliver what was called for`
//!
//! Both deliver operators are one [`Deliver`]: two frontiers of one thing. The probe is at the first, so that nobody but
//! the sinks concerned waits for what rules ask other systems.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, TryRecvError};
use hedgerow_storage::log::{Epoch, Log};
use hedgerow_storage::table::Tables;
use timely::container::CapacityContainerBuilder;
use timely::dataflow::channels::pact::{ExchangeCore, Pipeline};
use timely::dataflow::operators::vec::Input;
use timely::dataflow::operators::{Concatenate, Operator, Probe};
use timely::dataflow::{ProbeHandle, Scope, Stream};
use timely::progress::frontier::MutableAntichain;
use timely::scheduling::Activator;
use timely::worker::Worker;

use crate::call::Caller;
use crate::checkpoint::Part;
use crate::errors::Errors;
use crate::failed_calls::FailedCalls;
use crate::lookup::{Applied, Lookups};
use crate::metrics::EngineMetrics;
use crate::operators::absence::{AbsenceState, Watched};
use crate::operators::call::{Called, Calls, Means};
use crate::operators::deliver::Deliver;
use crate::operators::evaluate::{Evaluate, Out, Resolve};
use crate::operators::window::{Keyed, WindowState};
use crate::rows::{Lane, Local, RowBatch};
use crate::sink::registry::Registry;
use crate::source::{Frontier, InFlight};
use crate::step::{Feed, Step};

/// What all workers share.
pub struct Shared {
    pub registry: Arc<Registry>,
    pub parts: Sender<Part>,
    pub deadlines: Arc<Deadlines>,
    pub in_flight: Arc<InFlight>,
    pub progress: Arc<Progress>,
    pub calls: CallMeans,
    /// The epoch before the first step.
    pub start: Epoch,
    /// The end of the log when the engine started.
    pub replayed: Epoch,
}

/// What the call operators of all workers share.
pub struct CallMeans {
    pub caller: Arc<dyn Caller>,
    pub tables: Tables,
    pub applied: Arc<Applied>,
    pub errors: Arc<Errors>,
    pub failed_calls: Option<FailedCalls>,
    pub metrics: Arc<EngineMetrics>,
}

/// How far each worker is, and the least of them.
pub struct Progress {
    workers: Vec<AtomicU64>,
    /// The least.
    pub frontier: Frontier,
}

impl Progress {
    /// All `workers` are at `start`.
    pub fn new(workers: usize, start: Epoch) -> Self {
        let frontier = Frontier::default();
        frontier.advance(start);
        Self { workers: (0..workers).map(|_| AtomicU64::new(start.0)).collect(), frontier }
    }

    fn advance(&self, worker: usize, epoch: u64) {
        if let Some(own) = self.workers.get(worker) {
            own.store(epoch, Ordering::Release);
        }
        let least = self.workers.iter().map(|worker| worker.load(Ordering::Acquire)).min().unwrap_or_default();
        self.frontier.advance(Epoch(least));
    }
}

/// The operators that have deadlines.
#[derive(Clone, Copy)]
enum Timed {
    Windows,
    Absence,
}

/// The next deadline of every worker; the log commits an idle tick at the earliest.
pub struct Deadlines {
    /// Held while the log is told, so that it hears of the earliest last.
    workers: Mutex<Vec<[Option<u64>; 2]>>,
    log: Arc<Log>,
}

impl Deadlines {
    /// No deadlines on `workers` workers.
    pub fn new(workers: usize, log: Arc<Log>) -> Self {
        Self { workers: Mutex::new(vec![[None; 2]; workers]), log }
    }

    fn set(&self, worker: usize, operator: Timed, deadline: Option<u64>) {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        let Some([windows, absence]) = workers.get_mut(worker) else { return };
        let own = match operator {
            Timed::Windows => windows,
            Timed::Absence => absence,
        };
        if *own != deadline {
            *own = deadline;
            self.log.set_tick_deadline(workers.iter().flatten().flatten().min().copied().map(Epoch));
        }
    }
}

/// Steps that end in a checkpoint and are still on their way through an operator of this worker.
type Checkpoints = Rc<RefCell<BTreeSet<u64>>>;

/// What the operators of one worker begin with.
pub struct Operators<R> {
    /// Rules over messages.
    pub evaluate: Evaluate<R>,
    /// Open windows.
    pub windows: WindowState,
    /// Timers.
    pub absence: AbsenceState,
}

/// Runs one worker until its queue is closed and everything is through.
pub fn run<R: Resolve + 'static>(
    worker: &mut Worker,
    operators: Operators<R>,
    queue: &Receiver<Feed>,
    shared: &Arc<Shared>,
) {
    const IDLE: Duration = Duration::from_millis(100);
    let index = worker.index();
    let checkpoints: [Checkpoints; 2] = Default::default();
    let start = shared.start.0;
    let (mut input, probe) = worker.dataflow(|scope: Scope<'_, u64>| {
        let (input, steps) = scope.new_input::<Arc<Step>>();
        (input, build(scope, steps, operators, shared, &checkpoints))
    });
    input.advance_to(start + 1);
    let mut under_way: BTreeMap<u64, usize> = BTreeMap::new();
    let mut closed = false;
    loop {
        while !closed {
            match queue.try_recv() {
                Ok(Feed::Step(step)) => {
                    let end = step.end.0;
                    if step.checkpoint {
                        for operator in &checkpoints {
                            operator.borrow_mut().insert(end);
                        }
                    }
                    if index == 0 {
                        under_way.insert(end, step.bytes);
                    }
                    // At the time after the step before, which none of its epochs is below: a frontier at that time says
                    // that nothing of this step is through, whoever sees it.
                    input.send(step);
                    input.advance_to(end + 1);
                }
                Ok(Feed::Close) | Err(TryRecvError::Disconnected) => closed = true,
                Err(TryRecvError::Empty) => break,
            }
        }
        worker.step_or_park(Some(IDLE));
        let frontier = probe.with_frontier(|frontier| frontier.first().copied()).unwrap_or(u64::MAX);
        let through = frontier.min(*input.time()).saturating_sub(1);
        shared.progress.advance(index, through);
        while let Some(entry) = under_way.first_entry()
            && *entry.key() <= through
        {
            shared.in_flight.done(entry.remove());
        }
        if closed && !probe.less_than(input.time()) {
            break;
        }
    }
    input.close();
    while worker.has_dataflows() && !probe.done() {
        worker.step_or_park(Some(IDLE));
    }
}

/// Builds the dataflow of one worker.
fn build<'scope, R: Resolve + 'static>(
    scope: Scope<'scope, u64>,
    steps: Stream<'scope, u64, Vec<Arc<Step>>>,
    operators: Operators<R>,
    shared: &Arc<Shared>,
    checkpoints: &[Checkpoints; 2],
) -> ProbeHandle<u64> {
    let [of_windows, of_absence] = checkpoints;
    let Evaluated { rows, keyed, watched, asked } = evaluated(scope, steps, operators.evaluate, shared);
    let closed = windowed(scope, keyed, operators.windows, shared, of_windows);
    let (noticed, asked_late) = absent(scope, watched, operators.absence, shared, of_absence);
    let answered = called(scope, scope.concatenate([asked, asked_late]), shared);
    delivered(scope, scope.concatenate([rows, closed, noticed]), answered, shared)
}

type Batches<'scope> = Stream<'scope, u64, Local<RowBatch>>;
type KeyedRows<'scope> = Stream<'scope, u64, Local<Keyed>>;
type WatchedItems<'scope> = Stream<'scope, u64, Local<Watched>>;
type Asked<'scope> = Stream<'scope, u64, Local<Called>>;

/// What comes out of the rules.
struct Evaluated<'scope> {
    rows: Batches<'scope>,
    keyed: KeyedRows<'scope>,
    watched: WatchedItems<'scope>,
    asked: Asked<'scope>,
}

fn evaluated<'scope, R: Resolve + 'static>(
    scope: Scope<'scope, u64>,
    steps: Stream<'scope, u64, Vec<Arc<Step>>>,
    mut evaluate: Evaluate<R>,
    shared: &Arc<Shared>,
) -> Evaluated<'scope> {
    use timely::dataflow::operators::generic::OutputBuilder;
    use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
    let mut builder = OperatorBuilder::new("evaluate".to_owned(), scope);
    let mut input = builder.new_input(steps, Pipeline);
    let (rows_output, rows) = builder.new_output();
    let (keyed_output, keyed) = builder.new_output();
    let (watched_output, watched) = builder.new_output();
    let (called_output, asked) = builder.new_output();
    let mut rows_output = OutputBuilder::<u64, CapacityContainerBuilder<Local<RowBatch>>>::from(rows_output);
    let mut keyed_output = OutputBuilder::<u64, CapacityContainerBuilder<Local<Keyed>>>::from(keyed_output);
    let mut watched_output = OutputBuilder::<u64, CapacityContainerBuilder<Local<Watched>>>::from(watched_output);
    let mut called_output = OutputBuilder::<u64, CapacityContainerBuilder<Local<Called>>>::from(called_output);
    let parts = shared.parts.clone();
    let mut out = Vec::new();
    let first = scope.worker().index() == 0;
    builder.build(move |_| {
        move |_frontiers| {
            let mut rows_output = rows_output.activate();
            let mut keyed_output = keyed_output.activate();
            let mut watched_output = watched_output.activate();
            let mut called_output = called_output.activate();
            input.for_each(|capability, steps| {
                let held = [0, 1, 2, 3].map(|output| capability.retain_least(output));
                let [Some(for_rows), Some(for_keyed), Some(for_watched), Some(for_called)] = held else { return };
                let mut at = *for_rows.time();
                for step in steps.drain(..) {
                    evaluate.step(&step, &mut out);
                    let mut items = out.drain(..).peekable();
                    while items.peek().is_some() {
                        let [at_rows, at_keyed, at_watched, at_called] =
                            [&for_rows, &for_keyed, &for_watched, &for_called].map(|held| held.delayed(&at));
                        let mut rows = rows_output.session(&at_rows);
                        let mut keyed = keyed_output.session(&at_keyed);
                        let mut watched = watched_output.session(&at_watched);
                        let mut called = called_output.session(&at_called);
                        for item in items.by_ref() {
                            match item {
                                Out::Rows(batch) => rows.give(batch),
                                Out::Keyed(item) => keyed.give(item),
                                Out::Watched(item) => watched.give(item),
                                Out::Called(item) => called.give(item),
                                Out::Time(later) => {
                                    at = at.max(later);
                                    break;
                                }
                            }
                        }
                    }
                    drop(items);
                    if step.checkpoint && first {
                        let bytes = vec![evaluate.catalog().encode()];
                        let _ = parts.send(Part { epoch: step.end, name: "catalog".into(), bytes });
                    }
                }
            });
        }
    });
    Evaluated { rows, keyed, watched, asked }
}

fn windowed<'scope>(
    scope: Scope<'scope, u64>,
    keyed: KeyedRows<'scope>,
    mut state: WindowState,
    shared: &Arc<Shared>,
    checkpoints: &Checkpoints,
) -> Batches<'scope> {
    let worker = scope.worker().index();
    let shared = Arc::clone(shared);
    let checkpoints = Rc::clone(checkpoints);
    // Windows of the checkpoint are due even if nothing follows it in the log.
    shared.deadlines.set(worker, Timed::Windows, state.next_deadline());
    let route = ExchangeCore::<CapacityContainerBuilder<Local<Keyed>>, _>::new(|item: &Keyed| item.route());
    keyed.unary_frontier::<CapacityContainerBuilder<Local<RowBatch>>, _, _, _>(route, "window", move |capability, _| {
        let mut capability = Some(capability);
        let mut stash: Stash<Keyed> = BTreeMap::new();
        let mut done = shared.start.0;
        move |(input, frontier), output| {
            input.for_each(|time, data| {
                if let Some(least) = time.least() {
                    stash.entry(*least).or_default().append(&mut data.0);
                }
            });
            let next = frontier.frontier().first().copied();
            let up_to = next.unwrap_or(done + 1).saturating_sub(1);
            let Some(held) = capability.as_mut() else { return };
            if up_to > done {
                let mut batches = Vec::new();
                for end in checkpoint_ends(&checkpoints, up_to) {
                    state.advance(take_up_to(&mut stash, end), end, &mut batches);
                    let name = format!("windows/{worker}");
                    let _ = shared.parts.send(Part { epoch: Epoch(end), name, bytes: vec![state.encode()] });
                }
                state.advance(take_up_to(&mut stash, up_to), up_to, &mut batches);
                output.session(held).give_iterator(batches.into_iter());
                done = up_to;
                shared.deadlines.set(worker, Timed::Windows, state.next_deadline());
            }
            match next {
                Some(next) if next > *held.time() => held.downgrade(&next),
                Some(_) => {}
                None => capability = None,
            }
        }
    })
}

/// The rows of timers that went off, and the messages whose rows look up tables.
fn absent<'scope>(
    scope: Scope<'scope, u64>,
    watched: WatchedItems<'scope>,
    mut state: AbsenceState,
    shared: &Arc<Shared>,
    checkpoints: &Checkpoints,
) -> (Batches<'scope>, Asked<'scope>) {
    use timely::dataflow::operators::generic::OutputBuilder;
    use timely::dataflow::operators::generic::builder_rc::OperatorBuilder;
    let worker = scope.worker().index();
    let shared = Arc::clone(shared);
    let checkpoints = Rc::clone(checkpoints);
    // Timers of the checkpoint may be due already: their deadline passed while nothing ran.
    shared.deadlines.set(worker, Timed::Absence, state.next_deadline());
    let route = ExchangeCore::<CapacityContainerBuilder<Local<Watched>>, _>::new(|item: &Watched| item.route());
    let mut builder = OperatorBuilder::new("absence".to_owned(), scope);
    let activator = scope.activator_for(builder.operator_info().address);
    let mut input = builder.new_input(watched, route);
    let (rows_output, rows) = builder.new_output();
    let (asked_output, asked) = builder.new_output();
    let mut rows_output = OutputBuilder::<u64, CapacityContainerBuilder<Local<RowBatch>>>::from(rows_output);
    let mut asked_output = OutputBuilder::<u64, CapacityContainerBuilder<Local<Called>>>::from(asked_output);
    builder.build(move |capabilities| {
        let mut capabilities = <[_; 2]>::try_from(capabilities).ok();
        let mut stash: Stash<Watched> = BTreeMap::new();
        let mut done = shared.start.0;
        move |frontiers: &[MutableAntichain<u64>]| {
            input.for_each(|time, data| {
                if let Some(least) = time.least() {
                    stash.entry(*least).or_default().append(&mut data.0);
                }
            });
            let next = frontiers.first().and_then(|frontier| frontier.frontier().first().copied());
            let up_to = next.unwrap_or(done + 1).saturating_sub(1);
            let Some([for_rows, for_asked]) = capabilities.as_mut() else { return };
            if up_to > done {
                let mut batches = Vec::new();
                for end in checkpoint_ends(&checkpoints, up_to) {
                    state.advance(take_up_to(&mut stash, end), end, &mut batches);
                    state.begin_checkpoint(end);
                }
                state.advance(take_up_to(&mut stash, up_to), up_to, &mut batches);
                rows_output.activate().session(&*for_rows).give_iterator(batches.into_iter());
                let asks = state.take_asks().into_iter().map(Called::Ask);
                asked_output.activate().session(&*for_asked).give_iterator(asks);
                done = up_to;
                shared.deadlines.set(worker, Timed::Absence, state.next_deadline());
            }
            if let Some((epoch, bytes)) = state.saved() {
                let name = format!("timers/{worker}");
                let _ = shared.parts.send(Part { epoch: Epoch(epoch), name, bytes });
            } else if state.is_saving() {
                activator.activate();
            }
            match next {
                Some(next) => {
                    for held in [for_rows, for_asked].into_iter().filter(|held| next > *held.time()) {
                        held.downgrade(&next);
                    }
                }
                None => capabilities = None,
            }
        }
    });
    (rows, asked)
}

/// Removes and returns the checkpoint steps that end at or before `up_to`.
fn checkpoint_ends(checkpoints: &Checkpoints, up_to: u64) -> Vec<u64> {
    let mut all = checkpoints.borrow_mut();
    let later = all.split_off(&(up_to + 1));
    std::mem::replace(&mut *all, later).into_iter().collect()
}

/// What has come in and waits for the frontier, by the time of its step.
type Stash<T> = BTreeMap<u64, Vec<T>>;

fn take_up_to<T>(stash: &mut Stash<T>, up_to: u64) -> Vec<T> {
    let later = stash.split_off(&(up_to + 1));
    std::mem::replace(stash, later).into_values().flatten().collect()
}

/// The rows of rules that ask other systems, each with the time of its message.
fn called<'scope>(scope: Scope<'scope, u64>, asked: Asked<'scope>, shared: &Arc<Shared>) -> Batches<'scope> {
    let means = &shared.calls;
    let worker = scope.worker();
    asked.unary_frontier::<CapacityContainerBuilder<Local<RowBatch>>, _, _, _>(Pipeline, "call", |capability, info| {
        let activator = worker.sync_activator_for(info.address.to_vec());
        // It fails when the worker has ended; then there is nobody to wake.
        let wake: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
            let _ = activator.activate();
        });
        let lookups = Lookups::new(means.tables.clone(), Arc::clone(&means.applied), Arc::clone(&wake));
        let mut calls = Calls::new(Means {
            caller: Arc::clone(&means.caller),
            lookups,
            errors: Arc::clone(&means.errors),
            metrics: Arc::clone(&means.metrics),
            in_flight: Arc::clone(&shared.in_flight),
            registry: Arc::clone(&shared.registry),
            failed_calls: means.failed_calls.clone(),
            replayed: shared.replayed,
            wake,
        });
        let mut capability = Some(capability);
        let mut out: Vec<(u64, RowBatch)> = Vec::new();
        move |(input, frontier), output| {
            input.for_each(|time, data| {
                let Some(time) = time.least() else { return };
                for item in data.0.drain(..) {
                    match item {
                        Called::Rows(batch) => out.push((*time, batch)),
                        Called::Ask(ask) => calls.take(*time, ask, &mut out),
                    }
                }
            });
            calls.advance(&mut out);
            let Some(held) = capability.as_mut() else { return };
            for (time, batch) in out.drain(..) {
                output.session(&held.delayed(&time)).give(batch);
            }
            let next = frontier.frontier().first().copied();
            match calls.oldest().into_iter().chain(next).min() {
                Some(oldest) if oldest > *held.time() => held.downgrade(&oldest),
                Some(_) => {}
                None => capability = None,
            }
        }
    })
}

/// Hands out the rows of both lanes. Returns the probe of the straight one.
fn delivered<'scope>(
    scope: Scope<'scope, u64>,
    rows: Batches<'scope>,
    called: Batches<'scope>,
    shared: &Arc<Shared>,
) -> ProbeHandle<u64> {
    let (index, peers) = (scope.worker().index(), scope.worker().peers());
    let start = shared.start.0;
    let deliver = Rc::new(RefCell::new(Deliver::new(index, peers, Arc::clone(&shared.registry), start)));
    // What the straight lane hands out may be what the called one waits for, and the other way round.
    let others = Rc::new(RefCell::new(Vec::new()));
    lane(scope, called, Lane::Called, &deliver, &others, start);
    lane(scope, rows, Lane::Straight, &deliver, &others, start)
}

/// Hands out the rows of one lane.
fn lane<'scope>(
    scope: Scope<'scope, u64>,
    rows: Batches<'scope>,
    lane: Lane,
    deliver: &Rc<RefCell<Deliver>>,
    operators: &Rc<RefCell<Vec<(Lane, Activator)>>>,
    start: u64,
) -> ProbeHandle<u64> {
    const RETRY: Duration = Duration::from_millis(5);
    let route =
        ExchangeCore::<CapacityContainerBuilder<Local<RowBatch>>, _>::new(|batch: &RowBatch| Deliver::route(batch));
    let (deliver, operators) = (Rc::clone(deliver), Rc::clone(operators));
    let done =
        rows.unary_frontier::<CapacityContainerBuilder<Vec<()>>, _, _, _>(route, "deliver", move |capability, info| {
            let activator = scope.activator_for(Rc::clone(&info.address));
            operators.borrow_mut().push((lane, scope.activator_for(info.address)));
            let mut capability = Some(capability);
            let mut up_to = start;
            move |(input, frontier), _output| {
                let mut deliver = deliver.borrow_mut();
                input.for_each(|time, data| {
                    if let Some(least) = time.least() {
                        deliver.stash(lane, *least, data.0.drain(..));
                    }
                });
                let next = frontier.frontier().first().copied();
                let passed = up_to.max(next.unwrap_or(up_to + 1).saturating_sub(1));
                if passed > up_to {
                    operators.borrow().iter().filter(|(of, _)| *of != lane).for_each(|(_, other)| other.activate());
                }
                up_to = passed;
                deliver.advance(lane, up_to);
                if deliver.is_waiting() {
                    activator.activate_after(RETRY);
                }
                let hold = deliver.oldest(lane).into_iter().chain(next).min();
                match (&mut capability, hold) {
                    (Some(held), Some(hold)) if hold > *held.time() => held.downgrade(&hold),
                    (Some(_), Some(_)) => {}
                    _ => capability = None,
                }
            }
        });
    let (probe, _) = done.probe();
    probe
}
