//! Time zones: names of the tz database and fixed offsets.

use chrono::{DateTime, FixedOffset, MappedLocalTime, NaiveDateTime, Offset as _, TimeDelta, TimeZone, Utc};
use chrono_tz::{OffsetName as _, Tz};

/// A zone.
#[derive(Clone, Copy)]
pub(super) enum Zone {
    Named(Tz),
    Fixed(FixedOffset),
}

/// A moment as clocks in a zone show it.
pub(super) struct Local {
    pub(super) time: NaiveDateTime,
    pub(super) offset_s: i32,
    /// `CST`; the offset where the database has no letters.
    pub(super) abbreviation: String,
}

/// Long names of abbreviations that mean one thing only, with their offsets in hours.
const LONG_NAMES: [(&str, i32, &str); 16] = [
    ("UTC", 0, "Coordinated Universal Time"),
    ("GMT", 0, "Greenwich Mean Time"),
    ("EST", -5, "Eastern Standard Time"),
    ("EDT", -4, "Eastern Daylight Time"),
    ("CST", -6, "Central Standard Time"),
    ("CDT", -5, "Central Daylight Time"),
    ("MST", -7, "Mountain Standard Time"),
    ("MDT", -6, "Mountain Daylight Time"),
    ("PST", -8, "Pacific Standard Time"),
    ("PDT", -7, "Pacific Daylight Time"),
    ("CET", 1, "Central European Time"),
    ("CEST", 2, "Central European Summer Time"),
    ("EET", 2, "Eastern European Time"),
    ("EEST", 3, "Eastern European Summer Time"),
    ("WET", 0, "Western European Time"),
    ("JST", 9, "Japan Standard Time"),
];

/// Zones that `time_to_epoch` takes by abbreviation, as `java.time` prefers them.
const ABBREVIATIONS: [(&str, Tz); 14] = [
    ("EST", Tz::America__New_York),
    ("EDT", Tz::America__New_York),
    ("CST", Tz::America__Chicago),
    ("CDT", Tz::America__Chicago),
    ("MST", Tz::America__Denver),
    ("MDT", Tz::America__Denver),
    ("PST", Tz::America__Los_Angeles),
    ("PDT", Tz::America__Los_Angeles),
    ("CET", Tz::Europe__Paris),
    ("CEST", Tz::Europe__Paris),
    ("EET", Tz::Europe__Bucharest),
    ("EEST", Tz::Europe__Bucharest),
    ("WET", Tz::WET),
    ("JST", Tz::Asia__Tokyo),
];

impl Zone {
    pub(super) const UTC: Zone = Zone::Named(Tz::UTC);

    /// A tz database name in its own spelling, or `±HH[[:]mm[[:]ss]]`.
    pub(super) fn parse(id: &str) -> Option<Zone> {
        if id.starts_with(['+', '-']) {
            // No offset at all is UTC, and called so.
            return match parse_offset(id)? {
                0 => Some(Zone::UTC),
                offset_s => Zone::fixed(offset_s),
            };
        }
        id.parse().ok().map(Zone::Named)
    }

    /// A zone as `java.time.ZoneId` spells it: also `Z`, and an offset behind `UTC`, `GMT` or `UT`.
    pub(super) fn parse_id(id: &str) -> Option<Zone> {
        if id == "Z" || id == "UT" {
            return Zone::fixed(0);
        }
        let offset = ["UTC", "GMT", "UT"].iter().find_map(|prefix| id.strip_prefix(prefix));
        match offset.filter(|offset| offset.starts_with(['+', '-'])) {
            Some(offset) => Zone::fixed(parse_offset(offset).filter(|offset_s| offset_s.abs() <= 18 * 3600)?),
            None => Zone::parse(id),
        }
    }

    /// The zone of an abbreviation, or of a name.
    pub(super) fn parse_name(name: &str) -> Option<Zone> {
        let known = ABBREVIATIONS.iter().find(|(abbreviation, _)| *abbreviation == name);
        known.map(|(_, zone)| Zone::Named(*zone)).or_else(|| Zone::parse_id(name))
    }

    pub(super) fn fixed(offset_s: i32) -> Option<Zone> {
        FixedOffset::east_opt(offset_s).map(Zone::Fixed)
    }

    /// What clocks show; `None` beyond the calendar.
    pub(super) fn local(self, epoch_ms: i64) -> Option<Local> {
        let utc = DateTime::<Utc>::from_timestamp_millis(epoch_ms)?.naive_utc();
        let (offset_s, abbreviation) = match self {
            Zone::Fixed(offset) => (offset.local_minus_utc(), None),
            Zone::Named(zone) => {
                let offset = zone.offset_from_utc_datetime(&utc);
                (offset.fix().local_minus_utc(), offset.abbreviation().map(str::to_owned))
            }
        };
        let time = utc.checked_add_signed(TimeDelta::seconds(offset_s.into()))?;
        let abbreviation = abbreviation
            .filter(|letters| letters.starts_with(|first: char| first.is_ascii_alphabetic()))
            .unwrap_or_else(|| format_offset(offset_s, true));
        Some(Local { time, offset_s, abbreviation })
    }

    /// The moment at which clocks show a time, epoch milliseconds: the earlier one where they show it twice, moved on
    /// by the length of the gap where they never do.
    pub(super) fn epoch_ms(self, local: NaiveDateTime) -> Option<i64> {
        let offset_s = match self {
            Zone::Fixed(offset) => offset.local_minus_utc(),
            Zone::Named(zone) => match zone.offset_from_local_datetime(&local) {
                MappedLocalTime::Single(offset) | MappedLocalTime::Ambiguous(offset, _) => {
                    offset.fix().local_minus_utc()
                }
                MappedLocalTime::None => {
                    let before = local.checked_sub_signed(TimeDelta::days(1))?;
                    zone.offset_from_utc_datetime(&before).fix().local_minus_utc()
                }
            },
        };
        let utc = local.checked_sub_signed(TimeDelta::seconds(offset_s.into()))?;
        Some(utc.and_utc().timestamp_millis())
    }

    /// The zone's own name.
    pub(super) fn id(self) -> String {
        match self {
            Zone::Named(zone) => zone.name().to_owned(),
            Zone::Fixed(offset) => format_offset(offset.local_minus_utc(), true),
        }
    }
}

impl Local {
    /// `Central Standard Time`; the abbreviation where it is not certain.
    pub(super) fn long_name(&self) -> &str {
        let hours = self.offset_s / 3600;
        let found = LONG_NAMES.iter().find(|(name, offset, _)| *name == self.abbreviation && *offset == hours);
        found.map_or(&self.abbreviation, |(_, _, long)| long)
    }
}

/// `±HH:mm`, with seconds when there are any.
pub(super) fn format_offset(offset_s: i32, colon: bool) -> String {
    let (sign, size) = (if offset_s < 0 { '-' } else { '+' }, offset_s.unsigned_abs());
    let (hours, minutes, seconds) = (size / 3600, size / 60 % 60, size % 60);
    let colon = if colon { ":" } else { "" };
    let seconds = if seconds == 0 { String::new() } else { format!("{colon}{seconds:02}") };
    format!("{sign}{hours:02}{colon}{minutes:02}{seconds}")
}

/// `±HH[[:]mm[[:]ss]]` in seconds.
fn parse_offset(text: &str) -> Option<i32> {
    let negative = text.starts_with('-');
    let digits: String = text.get(1..)?.split(':').collect();
    if !matches!(digits.len(), 2 | 4 | 6) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let part = |at: usize| digits.get(at..at + 2).map_or(Some(0), |part| part.parse::<i32>().ok());
    let (hours, minutes, seconds) = (part(0)?, part(2)?, part(4)?);
    if hours > 23 || minutes > 59 || seconds > 59 {
        return None;
    }
    let size = hours * 3600 + minutes * 60 + seconds;
    Some(if negative { -size } else { size })
}
