//! Log time: the clock that names epochs.
//!
//! It advances with the monotonic clock and is led towards the wall clock by making each second up to half a second
//! longer or shorter. So it never goes back and never stands still, also while the wall clock is behind after a
//! backward step; and it is right again after twice the step. Only when the wall clock is ahead by more than
//! `max_clock_jump` (a sleeping laptop, a clock set for the first time) does it follow at once, and counts that.

/// Log time, as of the last reading.
#[derive(Debug)]
pub(super) struct LogTime {
    now_us: u64,
    monotonic_us: u64,
    /// Half a microsecond left over from the last reading, as 0 or 1, so that frequent readings correct as much.
    odd: u64,
    max_jump_us: u64,
    jumps: u64,
    last_jump_us: u64,
    behind_wall_us: i64,
}

impl LogTime {
    /// Starts at the wall clock, but above `floor`.
    pub fn new(monotonic_us: u64, wall_us: u64, floor_us: u64, max_jump_us: u64) -> Self {
        let now_us = wall_us.max(floor_us.saturating_add(1));
        let behind_wall_us = difference(wall_us, now_us);
        Self { now_us, monotonic_us, odd: 0, max_jump_us, jumps: 0, last_jump_us: 0, behind_wall_us }
    }

    /// Takes a reading of both clocks and gives log time in µs.
    pub fn advance(&mut self, monotonic_us: u64, wall_us: u64) -> u64 {
        let elapsed = monotonic_us.saturating_sub(self.monotonic_us);
        self.monotonic_us = self.monotonic_us.max(monotonic_us);
        let expected = self.now_us.saturating_add(elapsed);
        let error = difference(wall_us, expected);
        if error > i64::try_from(self.max_jump_us).unwrap_or(i64::MAX) {
            self.jumps += 1;
            self.last_jump_us = error.unsigned_abs();
            self.now_us = wall_us;
            self.behind_wall_us = 0;
            return self.now_us;
        }
        let room = (elapsed + self.odd) / 2;
        self.odd = (elapsed + self.odd) % 2;
        let room = i64::try_from(room).unwrap_or(i64::MAX);
        let correction = error.clamp(-room, room);
        self.now_us = expected.saturating_add_signed(correction).max(self.now_us);
        self.behind_wall_us = difference(wall_us, self.now_us);
        self.now_us
    }

    /// How often, and by how many µs at last, log time followed a forward step at once.
    pub fn jumps(&self) -> (u64, u64) {
        (self.jumps, self.last_jump_us)
    }

    /// Wall clock minus log time at the last reading, in µs.
    pub fn behind_wall_us(&self) -> i64 {
        self.behind_wall_us
    }
}

fn difference(a: u64, b: u64) -> i64 {
    i64::try_from(i128::from(a) - i128::from(b)).unwrap_or(if a > b { i64::MAX } else { i64::MIN })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: u64 = 3_600_000_000;
    const START: u64 = 1_700_000_000_000_000;

    #[test]
    fn after_a_backward_step_it_goes_on_at_half_speed_until_the_wall_has_caught_up() {
        let mut time = LogTime::new(0, START, 0, 60_000_000);
        let mut last = time.advance(0, START);
        let mut caught_up_at = None;
        for second in 1..=3 * 3600_u64 {
            let wall = START + second * 1_000_000 - HOUR;
            let now = time.advance(second * 1_000_000, wall);
            assert!(now >= last + 500_000, "frozen or back at second {second}");
            if now == wall && caught_up_at.is_none() {
                caught_up_at = Some(second);
            }
            last = now;
        }
        assert_eq!(caught_up_at, Some(7200));
        assert_eq!(time.jumps().0, 0);
    }

    #[test]
    fn frequent_readings_correct_as_much_as_rare_ones() {
        let mut time = LogTime::new(0, START, 0, 60_000_000);
        for us in 1..=2_000_000_u64 {
            time.advance(us, START + us + 1_000_000);
        }
        assert_eq!(time.behind_wall_us(), 0);
    }

    #[test]
    fn a_long_forward_step_is_followed_at_once_and_counted() {
        let mut time = LogTime::new(0, START, 0, 60_000_000);
        assert_eq!(time.advance(1_000, START + HOUR), START + HOUR);
        assert_eq!(time.jumps(), (1, HOUR - 1_000));
    }

    #[test]
    fn it_begins_above_the_floor_also_when_the_wall_clock_is_behind() {
        let mut time = LogTime::new(0, START - HOUR, START, 60_000_000);
        assert!(time.advance(0, START - HOUR) > START);
    }
}
