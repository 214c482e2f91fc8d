//! From fields to a moment, as `java.time` resolves them by default: values must be in range, but the 31st of a short
//! month is its last day and 24:00 is the next midnight. A date alone is its midnight; without a zone it is UTC.

use chrono::{Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, Weekday};

use super::pattern::Field;
use super::read::Fields;
use super::zone::Zone;

/// Epoch milliseconds.
pub(super) fn epoch_ms(fields: &Fields) -> Option<i64> {
    let date = date(fields)?;
    check_date(fields, date)?;
    let (time, days) = time(fields)?;
    let local = NaiveDateTime::new(date.checked_add_days(Days::new(days))?, time);
    let zone = match (fields.offset_s, fields.zone) {
        (Some(offset_s), _) => Zone::fixed(offset_s)?,
        (None, Some(zone)) => zone,
        (None, None) => Zone::UTC,
    };
    zone.epoch_ms(local)
}

fn date(fields: &Fields) -> Option<NaiveDate> {
    if let (Some(year), Some(week)) = (fields.get(Field::WeekYear), fields.get(Field::Week)) {
        let weekday = match fields.get(Field::Weekday) {
            Some(day) => Weekday::try_from(u8::try_from(day.checked_sub(1)?).ok()?).ok()?,
            None => return None,
        };
        return NaiveDate::from_isoywd_opt(i32::try_from(year).ok()?, u32::try_from(week).ok()?, weekday);
    }
    let year = year(fields)?;
    if let Some(day) = fields.get(Field::DayOfYear) {
        return NaiveDate::from_yo_opt(year, u32::try_from(day).ok()?);
    }
    let month = u32::try_from(fields.get(Field::Month)?).ok()?;
    let day = u32::try_from(fields.get(Field::Day)?).ok().filter(|day| (1..=31).contains(day))?;
    // The last day of the month at the most.
    (0..=3).find_map(|less| NaiveDate::from_ymd_opt(year, month, day.checked_sub(less)?))
}

fn year(fields: &Fields) -> Option<i32> {
    let year = match (fields.get(Field::Year), fields.get(Field::YearOfEra), fields.get(Field::Era)) {
        (Some(year), _, _) => year,
        (None, Some(year), Some(0)) => 1 - year,
        (None, Some(year), _) if year > 0 => year,
        _ => return None,
    };
    i32::try_from(year).ok()
}

/// What else the text says about the day must be true of it.
fn check_date(fields: &Fields, date: NaiveDate) -> Option<()> {
    let weekday = fields.get(Field::Weekday).is_none_or(|day| day == i64::from(date.weekday().number_from_monday()));
    let quarter = fields.get(Field::Quarter).is_none_or(|quarter| quarter == i64::from(date.month0() / 3 + 1));
    let month = fields.get(Field::Month).is_none_or(|month| month == i64::from(date.month()));
    (weekday && quarter && month).then_some(())
}

/// The time of day, and 1 if it belongs to the next day.
fn time(fields: &Fields) -> Option<(NaiveTime, u64)> {
    if let Some(nanos) = fields.get(Field::NanoOfDay) {
        return of_day(nanos / 1_000_000_000, nanos % 1_000_000_000);
    }
    if let Some(millis) = fields.get(Field::MilliOfDay) {
        return of_day(millis / 1000, millis % 1000 * 1_000_000);
    }
    let part = |field, limit: i64| fields.get(field).map_or(Some(0), |value| (value < limit).then_some(value));
    let (minute, second, nano) =
        (part(Field::Minute, 60)?, part(Field::Second, 60)?, part(Field::Nano, 1_000_000_000)?);
    let within = minute * 60 + second;
    match hour(fields)? {
        None if fields.get(Field::Minute).or(fields.get(Field::Second)).or(fields.get(Field::Nano)).is_some() => None,
        None => Some((NaiveTime::MIN, 0)),
        Some(24) if within == 0 && nano == 0 => Some((NaiveTime::MIN, 1)),
        Some(hour) => of_day(hour * 3600 + within, nano),
    }
}

fn of_day(seconds: i64, nanos: i64) -> Option<(NaiveTime, u64)> {
    let (seconds, nanos) = (u32::try_from(seconds).ok()?, u32::try_from(nanos).ok()?);
    NaiveTime::from_num_seconds_from_midnight_opt(seconds, nanos).map(|time| (time, 0))
}

/// The hour from 0 to 24; the inner `None` if the text has none. An hour of a half day needs the half.
fn hour(fields: &Fields) -> Option<Option<i64>> {
    let checked = |value: i64, from: i64, to: i64| (from..=to).contains(&value).then_some(value);
    if let Some(hour) = fields.get(Field::Hour) {
        return checked(hour, 0, 24).map(Some);
    }
    if let Some(hour) = fields.get(Field::ClockHour) {
        return checked(hour, 1, 24).map(|hour| Some(hour % 24));
    }
    let half_hour = match (fields.get(Field::HalfHour), fields.get(Field::ClockHalfHour)) {
        (Some(hour), _) => checked(hour, 0, 11)?,
        (None, Some(hour)) => checked(hour, 1, 12)? % 12,
        (None, None) => return Some(None),
    };
    Some(Some(fields.get(Field::HalfDay)? * 12 + half_hour))
}
