use super::*;

const MOMENT: i64 = 1_481_825_251_155; // 2016-12-15T18:07:31.155Z, a Thursday

#[track_caller]
fn written(pattern: &str, zone: &str, text: &str) {
    assert_eq!(parse_time(&[pattern.into(), MOMENT.into(), zone.into()]), text.into(), "{pattern} in {zone}");
}

#[track_caller]
fn read(text: &str, pattern: &str, epoch_ms: Option<i64>) {
    assert_eq!(time_to_epoch(&[text.into(), pattern.into()]), epoch_ms.into(), "{text} by {pattern}");
}

#[test]
fn joda_letters() {
    written("yyyy-MM-dd'T'HH:mm:ss.SSSZZ", "Asia/Kolkata", "2016-12-15T23:37:31.155+05:30");
    written("yy C x w e EEE EEEE D", "UTC", "16 20 2016 50 4 Thu Thursday 350");
    written("K h H k a", "UTC", "6 6 18 18 PM");
    written("S SS SSSSSS", "UTC", "1 15 155000");
    written("z zzzz ZZZ", "America/New_York", "EST Eastern Standard Time America/New_York");
    written("G ''yy'' 'o''clock'", "UTC", "AD '16' o'clock");
    written("HH:mm z", "-0930", "08:37 -09:30");
    for bad in ["b", "'open", "yyyy-jj"] {
        assert_eq!(parse_time(&[bad.into(), MOMENT.into()]), Value::Undefined, "{bad}");
    }
    assert_eq!(parse_time(&["yyyy".into(), Value::literal_number("1e300").unwrap()]), Value::Undefined);
}

#[test]
fn java_letters() {
    read("2020-01-01T05:30:00+05:30", "yyyy-MM-dd'T'HH:mm:ssXXX", Some(1_577_836_800_000));
    read("20200101053000250", "yyyyMMddHHmmssSSS", Some(1_577_856_600_250));
    read("2020-01-01 05", "yyyy-MM-dd[ HH:mm][ HH]", Some(1_577_854_800_000));
    read("Wed, 1 Jan 2020 00:00:00 +0000", "EEE, d MMM yyyy HH:mm:ss Z", Some(1_577_836_800_000));
    read("Thu, 1 Jan 2020", "EEE, d MMM yyyy", None);
    read("1 jan 2020", "d MMM yyyy", None);
    read("01/02/2021 12:04 AM", "MM/dd/yyyy hh:mm a", Some(1_609_545_840_000));
    read("2020-02-31", "yyyy-MM-dd", Some(1_582_934_400_000));
    read("2020-02-32", "yyyy-MM-dd", None);
    read("2020-01-01 24:00", "yyyy-MM-dd HH:mm", Some(1_577_923_200_000));
    read("2020-01-01 24:01", "yyyy-MM-dd HH:mm", None);
    read("2020-001", "yyyy-DDD", Some(1_577_836_800_000));
    read("2020-01-01 x", "yyyy-MM-dd", None);
    read("12020-01-01", "yyyy-MM-dd", None);
    read("+12020-01-01", "yyyy-MM-dd", Some(317_147_356_800_000));
    read("12:00", "HH:mm", None);
    read("2020", "yyyy", None);
}

#[test]
fn zones() {
    read("2020-07-01 12:00 Europe/Paris", "yyyy-MM-dd HH:mm VV", Some(1_593_597_600_000));
    read("2020-04-03 09:45:18 UTC+01:00", "yyyy-MM-dd HH:mm:ss VV", Some(1_585_903_518_000));
    read("2020-04-03 09:45:18 GMT-0330", "yyyy-MM-dd HH:mm:ss z", Some(1_585_919_718_000));
    read("2020-04-03 09:45:18 UTC+19:00", "yyyy-MM-dd HH:mm:ss VV", None);
    read("2007-12-03 10:15:30.592 America/Los_Angeles", "yyyy-MM-dd HH:mm:ss.SSS z", Some(1_196_705_730_592));
    read("2020-07-01 12:00 PDT", "yyyy-MM-dd HH:mm z", Some(1_593_630_000_000));
    read("2020-07-01 12:00 GMT+8", "yyyy-MM-dd HH:mm O", Some(1_593_576_000_000));
    read("2020-07-01 12:00 GMT+08:00", "yyyy-MM-dd HH:mm OOOO", Some(1_593_576_000_000));
    // The hour that does not exist, and the one that exists twice.
    read("2021-03-28 02:30 Europe/Paris", "yyyy-MM-dd HH:mm VV", Some(1_616_895_000_000));
    read("2021-10-31 02:30 Europe/Paris", "yyyy-MM-dd HH:mm VV", Some(1_635_640_200_000));
    read("2020-07-01 12:00 Nope/Zone", "yyyy-MM-dd HH:mm VV", None);
}
