//! The keys of one rule on one worker: idle, armed or fired.
//!
//! A key that is idle is not here at all, except in rules on the stream `presence`, where the version of its last event
//! has to be known. An armed one has its deadline and its row, a fired one only itself. Slots live in chunks, so that
//! growing moves nothing and costs no more than a chunk; a slot is 48 bytes, its place in the index 9 to 18, and its
//! key and row are one piece of memory.

use hedgerow_storage::fault;

use super::index::{Index, Place};
use super::lanes::{Due, Lanes, Link, Links, NONE};
use super::signals::{Order, Signal, key_of};
use super::snapshot::Snapshot;

/// What a slot is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nobody's.
    Free,
    /// Disarmed; here only for its version.
    Idle,
    /// Waiting for its deadline.
    Armed,
    /// Noticed, until UNLESS is true again.
    Fired,
}

/// A key and what is known of it.
#[derive(Debug)]
pub struct Slot {
    /// Key and, while armed, row (see [`super::signals`]).
    pub record: Box<[u8]>,
    /// When it is due, and the offset of the record that armed it.
    pub due: Due,
    link: Link,
    /// What it is.
    pub state: State,
}

const CHUNK: usize = 4_096;

/// The slots, in chunks.
#[derive(Debug, Default)]
pub struct Slots {
    chunks: Vec<Vec<Slot>>,
    /// Versions by slot, in rules on the stream `presence`.
    orders: Vec<Option<Order>>,
    free: Vec<u32>,
    len: u32,
}

impl Slots {
    /// How many there are, free ones included.
    pub fn len(&self) -> u32 {
        self.len
    }

    /// A slot.
    pub fn get(&self, slot: u32) -> Option<&Slot> {
        self.chunks.get(slot as usize / CHUNK)?.get(slot as usize % CHUNK)
    }

    fn get_mut(&mut self, slot: u32) -> Option<&mut Slot> {
        self.chunks.get_mut(slot as usize / CHUNK)?.get_mut(slot as usize % CHUNK)
    }

    /// The version of a slot's last event.
    pub fn order(&self, slot: u32) -> Option<Order> {
        self.orders.get(slot as usize).copied().flatten()
    }

    fn set_order(&mut self, slot: u32, order: Option<Order>) {
        let at = slot as usize;
        if order.is_some() && self.orders.len() <= at {
            self.orders.resize(at + 1, None);
        }
        if let Some(known) = self.orders.get_mut(at) {
            *known = order;
        }
    }

    fn add(&mut self, record: Box<[u8]>) -> u32 {
        let link = Link { lane: NONE, before: NONE, after: NONE };
        let slot = Slot { record, due: (0, 0), link, state: State::Idle };
        if let Some(number) = self.free.pop() {
            if let Some(old) = self.get_mut(number) {
                *old = slot;
            }
            return number;
        }
        match self.chunks.last_mut().filter(|chunk| chunk.len() < CHUNK) {
            Some(chunk) => chunk.push(slot),
            None => {
                let mut chunk = Vec::with_capacity(CHUNK);
                chunk.push(slot);
                self.chunks.push(chunk);
            }
        }
        self.len += 1;
        self.len - 1
    }

    fn remove(&mut self, number: u32) {
        if let Some(slot) = self.get_mut(number) {
            slot.record = Box::default();
            slot.state = State::Free;
        }
        self.set_order(number, None);
        self.free.push(number);
    }
}

impl Links for Slots {
    fn link(&mut self, slot: u32) -> Option<&mut Link> {
        self.get_mut(slot).map(|slot| &mut slot.link)
    }

    fn due(&self, slot: u32) -> Due {
        self.get(slot).map_or((u64::MAX, 0), |slot| slot.due)
    }
}

/// A timer that has gone off.
#[derive(Debug)]
pub struct Fired {
    /// Its deadline, and the offset of the record that armed it.
    pub due: Due,
    /// Key and row.
    pub record: Box<[u8]>,
}

/// What became of a signal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was followed, or changed nothing.
    Done,
    /// A presence event that is older than one seen before.
    Stale,
    /// It would have armed its key, but AFTER was no duration; its record.
    NoDuration(Box<[u8]>),
}

/// The keys of one rule.
#[derive(Debug, Default)]
pub struct Timers {
    slots: Slots,
    index: Index,
    hasher: ahash::RandomState,
    lanes: Lanes,
    armed: u64,
    fired: u64,
    snapshot: Option<Snapshot>,
}

impl Timers {
    /// How many keys are armed.
    pub fn armed(&self) -> u64 {
        self.armed
    }

    /// How many keys have fired.
    pub fn fired(&self) -> u64 {
        self.fired
    }

    /// The next deadline and its key.
    pub fn next(&self) -> Option<(u64, &[u8])> {
        let (deadline, slot) = self.lanes.next()?;
        Some((deadline, key_of(&self.slots.get(slot)?.record)))
    }

    /// Takes a signal. Everything due before it has been fired.
    pub fn take(&mut self, signal: Signal) -> Taken {
        let hash = self.hash(key_of(&signal.record));
        let found = self.find(hash, key_of(&signal.record));
        let mut slot = found.map(|(_, slot)| slot);
        if let Some(order) = signal.order {
            let known = slot.and_then(|slot| self.slots.order(slot));
            if known.is_some_and(|known| !order.follows(known)) {
                return Taken::Stale;
            }
        }
        if signal.disarms
            && let Some((place, number)) = found
        {
            self.disarm(number);
            if self.slots.order(number).is_none() {
                self.index.remove(place);
                self.slots.remove(number);
                slot = None;
            }
        }
        let arms = signal.arms.filter(|_| slot.is_none_or(|slot| self.is_idle(slot)));
        let mut taken = Taken::Done;
        match arms {
            Some(after_us) if after_us > 0 => {
                let due = (signal.position.0.saturating_add(after_us), signal.position.1);
                let number = self.with_record(slot, hash, signal.record);
                self.arm(number, due, after_us);
                slot = Some(number);
            }
            _ => {
                if signal.order.is_some() && slot.is_none() {
                    slot = Some(self.add(hash, key_alone(&signal.record)));
                }
                if arms.is_some() {
                    taken = Taken::NoDuration(signal.record);
                }
            }
        }
        if let (Some(slot), Some(order)) = (slot, signal.order) {
            self.save(slot);
            self.slots.set_order(slot, Some(order));
        }
        taken
    }

    /// The key's slot, with this record.
    fn with_record(&mut self, slot: Option<u32>, hash: u32, record: Box<[u8]>) -> u32 {
        let Some(number) = slot else { return self.add(hash, record) };
        self.save(number);
        if let Some(slot) = self.slots.get_mut(number) {
            slot.record = record;
        }
        number
    }

    fn is_idle(&self, slot: u32) -> bool {
        let state = self.slots.get(slot).map(|slot| slot.state);
        state == Some(State::Idle) || (state == Some(State::Fired) && fault::bug("notice_repeats"))
    }

    /// Makes everything due at or before `up_to` fired, in the order of deadlines.
    pub fn fire(&mut self, up_to: u64, out: &mut Vec<Fired>) {
        while let Some(number) = self.lanes.first(up_to) {
            self.save(number);
            self.lanes.remove(&mut self.slots, number);
            self.armed -= 1;
            self.fired += 1;
            let Some(slot) = self.slots.get_mut(number) else { return };
            slot.state = State::Fired;
            let key = key_alone(&slot.record);
            out.push(Fired { due: slot.due, record: std::mem::replace(&mut slot.record, key) });
        }
    }

    fn disarm(&mut self, number: u32) {
        self.save(number);
        match self.slots.get(number).map(|slot| slot.state) {
            Some(State::Armed) => {
                self.lanes.remove(&mut self.slots, number);
                self.armed -= 1;
            }
            Some(State::Fired) => self.fired -= 1,
            _ => return,
        }
        if let Some(slot) = self.slots.get_mut(number) {
            slot.state = State::Idle;
            slot.record = key_alone(&slot.record);
        }
    }

    fn arm(&mut self, number: u32, due: Due, after_us: u64) {
        let link = self.lanes.push(&mut self.slots, number, due, after_us);
        let Some(slot) = self.slots.get_mut(number) else { return };
        if slot.state == State::Fired {
            self.fired -= 1;
        }
        *slot = Slot { record: std::mem::take(&mut slot.record), due, link, state: State::Armed };
        self.armed += 1;
    }

    fn add(&mut self, hash: u32, record: Box<[u8]>) -> u32 {
        let slot = self.slots.add(record);
        // What was there when the snapshot was begun, a free slot, is not to be saved.
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.pass(slot);
        }
        self.index.insert(hash, slot);
        slot
    }

    fn hash(&self, key: &[u8]) -> u32 {
        (self.hasher.hash_one(key) >> 32) as u32
    }

    fn find(&self, hash: u32, key: &[u8]) -> Option<(Place, u32)> {
        let is = |slot: u32| self.slots.get(slot).is_some_and(|slot| key_of(&slot.record) == key);
        self.index.find(hash, is)
    }

    // --- checkpoints

    /// Takes over a key of a checkpoint. Armed ones of one duration come in the order in which they are due.
    pub fn restore(&mut self, state: State, due: Due, after_us: u64, order: Option<Order>, record: Box<[u8]>) {
        let hash = self.hash(key_of(&record));
        if self.find(hash, key_of(&record)).is_some() {
            return;
        }
        let slot = self.add(hash, record);
        self.slots.set_order(slot, order);
        match state {
            State::Armed => self.arm(slot, due, after_us),
            State::Fired if !fault::bug("fired_forgotten") => {
                self.fired += 1;
                if let Some(slot) = self.slots.get_mut(slot) {
                    slot.state = State::Fired;
                }
            }
            State::Free | State::Idle | State::Fired => {}
        }
    }

    /// From now on what a slot was is saved before it changes.
    pub fn begin_snapshot(&mut self) {
        self.snapshot = Some(Snapshot::new(self.slots.len()));
    }

    /// Saves up to `budget` slots; the bytes in pieces, once all are saved.
    pub fn snapshot(&mut self, budget: &mut usize) -> Option<Vec<Vec<u8>>> {
        let Some(snapshot) = self.snapshot.as_mut() else { return Some(Vec::new()) };
        snapshot.go_on(&self.slots, &self.lanes, budget);
        if snapshot.is_complete() { self.snapshot.take().map(Snapshot::into_pieces) } else { None }
    }

    /// Saves a slot for the snapshot under way, before it changes.
    fn save(&mut self, slot: u32) {
        if let Some(snapshot) = &mut self.snapshot {
            snapshot.save(&self.slots, &self.lanes, slot);
        }
    }

    /// Bytes of memory beside keys and rows.
    pub fn overhead_bytes(&self) -> usize {
        let chunks = self.slots.chunks.len() * CHUNK * size_of::<Slot>();
        let orders = self.slots.orders.capacity() * size_of::<Option<Order>>();
        chunks + orders + self.index.bytes() + self.slots.free.capacity() * size_of::<u32>()
    }
}

impl Slot {
    /// The lane of an armed slot.
    pub fn lane(&self) -> u32 {
        self.link.lane
    }
}

/// The key of a record as a record of its own.
fn key_alone(record: &[u8]) -> Box<[u8]> {
    let length = super::signals::key_end(record);
    record.get(..length).unwrap_or_default().into()
}
