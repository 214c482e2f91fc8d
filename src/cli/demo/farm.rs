//! The farm of `macdonald/#`: sensors and sprinklers, each a task with a connection of its own.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::task::JoinSet;

use super::device::{Device, Kind, Manner};
use super::tally::Acknowledged;

/// One sprinkler for so many sensors.
const SENSORS_PER_SPRINKLER: usize = 5;

/// All devices. Dropping it ends them.
pub struct Farm {
    shared: Arc<Shared>,
    _devices: JoinSet<()>,
    /// How many sensors.
    pub sensors: usize,
    /// How many sprinklers.
    pub sprinklers: usize,
}

/// What the devices share.
pub struct Shared {
    /// Where the server is; after a crash, too.
    pub mqtt: SocketAddr,
    publishing: AtomicBool,
    /// The sprinkler that says nothing any more; 0 is none.
    silent: AtomicUsize,
    connected: AtomicI64,
    figures: Mutex<Figures>,
    latencies_us: Mutex<Vec<u32>>,
    acknowledged: Mutex<Acknowledged>,
}

/// Numbers for the progress line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Figures {
    /// Messages made.
    pub published: u64,
    /// Acknowledged ones.
    pub acknowledged: u64,
    /// Sent once more after a connection was lost.
    pub sent_again: u64,
    /// Devices that said good-bye.
    pub leaves: u64,
    /// Devices that dropped their connection.
    pub crashes: u64,
}

impl Figures {
    /// Messages that wait for their acknowledgement.
    pub fn on_their_way(&self) -> u64 {
        self.published.saturating_sub(self.acknowledged)
    }
}

impl Shared {
    /// Whether this device has something to say.
    pub fn speaks(&self, kind: Kind, number: usize) -> bool {
        self.is_publishing() && (kind == Kind::Sensor || self.silent.load(Ordering::Relaxed) != number)
    }

    pub fn is_publishing(&self) -> bool {
        self.publishing.load(Ordering::Relaxed)
    }

    pub fn connected(&self, change: i64) {
        self.connected.fetch_add(change, Ordering::Relaxed);
    }

    pub fn published(&self) {
        self.note(|figures| figures.published += 1);
    }

    pub fn acknowledge(&self, client: &str, sequence: u64, latency: Duration) {
        locked(&self.acknowledged).insert(client, sequence);
        locked(&self.latencies_us).push(u32::try_from(latency.as_micros()).unwrap_or(u32::MAX));
        self.note(|figures| figures.acknowledged += 1);
    }

    pub fn note(&self, change: impl FnOnce(&mut Figures)) {
        change(&mut locked(&self.figures));
    }
}

impl Farm {
    /// Starts `sensors` sensors, and sprinklers besides, which together publish `rate` messages a second.
    pub fn start(mqtt: SocketAddr, sensors: usize, rate: f64) -> Self {
        let sprinklers = sensors.div_ceil(SENSORS_PER_SPRINKLER);
        let shared = Arc::new(Shared {
            mqtt,
            publishing: AtomicBool::new(true),
            silent: AtomicUsize::new(0),
            connected: AtomicI64::new(0),
            figures: Mutex::default(),
            latencies_us: Mutex::default(),
            acknowledged: Mutex::default(),
        });
        let each = rate / (sensors + sprinklers) as f64;
        let mut devices = JoinSet::new();
        for number in 1..=sensors {
            let manner = match number % 5 {
                3 => Manner::Leaves,
                4 => Manner::Crashes,
                _ => Manner::Steady,
            };
            devices.spawn(Device::new(Kind::Sensor, number, manner, each, Arc::clone(&shared)).live());
        }
        for number in 1..=sprinklers {
            devices.spawn(Device::new(Kind::Sprinkler, number, Manner::Steady, each, Arc::clone(&shared)).live());
        }
        Self { shared, _devices: devices, sensors, sprinklers }
    }

    /// Lets devices publish, or makes them only wait for what is on its way.
    pub fn set_publishing(&self, publishing: bool) {
        self.shared.publishing.store(publishing, Ordering::Relaxed);
    }

    /// The last sprinkler falls silent, for good; its number.
    pub fn silence_one(&self) -> usize {
        self.shared.silent.store(self.sprinklers, Ordering::Relaxed);
        self.sprinklers
    }

    /// Devices with a connection.
    pub fn connected(&self) -> i64 {
        self.shared.connected.load(Ordering::Relaxed)
    }

    /// The numbers now.
    pub fn figures(&self) -> Figures {
        *locked(&self.shared.figures)
    }

    /// From publish to acknowledgement, µs, since the last look.
    pub fn take_latencies_us(&self) -> Vec<u32> {
        std::mem::take(&mut locked(&self.shared.latencies_us))
    }

    /// What has been acknowledged.
    pub fn acknowledged(&self) -> Acknowledged {
        locked(&self.shared.acknowledged).clone()
    }
}

/// A lock whose holder cannot leave it in disorder.
pub fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
