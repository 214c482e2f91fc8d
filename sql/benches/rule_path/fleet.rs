//! Messages of simulated fleets: the same on every machine.

use hedgerow_sql::message::Message;

const DEVICES: usize = 1_000;

/// Payloads one after the other.
pub struct Fleet {
    pub bytes: Vec<u8>,
    pub ends: Vec<usize>,
    topics: Vec<String>,
}

/// A small generator of random numbers.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn percent(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }
}

/// What is not uniform in a fleet, in percent.
#[derive(Clone, Copy, Default)]
pub struct Mixture {
    /// Whole numbers, in each of the eight fields.
    pub whole: u64,
    /// Missing values, in each of the first three fields.
    pub missing: u64,
    /// Messages in which one field is a text.
    pub other: u64,
}

impl Fleet {
    fn of(messages: usize, mut payload: impl FnMut(u64, &mut Random) -> String) -> Self {
        let topics = (0..DEVICES).map(|device| format!("macdonald/sensors/field-{device}")).collect();
        let mut fleet = Self { bytes: Vec::new(), ends: Vec::with_capacity(messages), topics };
        let mut random = Random(0x9e37_79b9_7f4a_7c15);
        for number in 0..messages as u64 {
            fleet.bytes.extend_from_slice(payload(number, &mut random).as_bytes());
            fleet.ends.push(fleet.bytes.len());
        }
        fleet
    }

    /// Stations with a handful of readings of several kinds.
    pub fn farm(messages: usize) -> Self {
        Self::of(messages, |number, random| {
            let (temperature, humidity, ph) = (random.below(600) + 200, random.below(10_000), random.below(140));
            format!(
                r#"{{"timestamp":{},"temperature":{},"humidity":{}.{:02},"ph":{}.{},"status":"{}","battery":{}}}"#,
                1_700_000_000_000 + number,
                tenths(temperature),
                humidity / 100,
                humidity % 100,
                ph / 10,
                ph % 10,
                ["ok", "idle", "warning"][random.below(3) as usize],
                random.below(101),
            )
        })
    }

    /// Devices with eight decimal fields.
    pub fn eight_fields(messages: usize, mixture: Mixture) -> Self {
        Self::of(messages, |_, random| {
            let mut members = Vec::with_capacity(8);
            for field in 0..8 {
                let value = random.below(90) * 10 + 1 + random.below(9);
                let value = match () {
                    () if field < 3 && random.percent(mixture.missing) => continue,
                    () if field == 3 && random.percent(mixture.other) => "\"n/a\"".to_owned(),
                    () if random.percent(mixture.whole) => format!("{}", value / 10),
                    () => tenths(value),
                };
                members.push(format!("\"reading{field}\":{value}"));
            }
            format!("{{{}}}", members.join(","))
        })
    }

    pub fn len(&self) -> usize {
        self.ends.len()
    }

    #[inline]
    pub fn payload(&self, number: usize) -> &[u8] {
        let start = if number == 0 { 0 } else { self.ends[number - 1] };
        &self.bytes[start..self.ends[number]]
    }

    #[inline]
    pub fn message(&self, number: usize) -> Message<'_> {
        Message {
            client_id: Some("sensor"),
            epoch: number as u64,
            offset: number as u64,
            ..Message::new(&self.topics[number % DEVICES], self.payload(number), 1_700_000_000_000)
        }
    }
}

/// As most encoders write them: without zeros at the end, whole numbers without a point.
fn tenths(value: u64) -> String {
    match value % 10 {
        0 => format!("{}", value / 10),
        tenth => format!("{}.{tenth}", value / 10),
    }
}
