//! Cron schedules over both changes of the clock, compared with an oracle that walks through every minute and shares no code with
//! the library.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use taskflow::{Cron, Every};

/// Zones with clock changes of half an hour, one hour and two hours; at two, at one and at midnight; in the north and the south.
const ZONES: [&str; 6] = [
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "America/Santiago",
    "Africa/Cairo",
    "Antarctica/Troll",
];

const EXPRESSIONS: [&str; 30] = [
    "30 2 * * *",
    "30 2,14 * * *",
    "0 0 * * *",
    "0,30 0-3 * * *",
    "15 1-3 * * *",
    "0-59/20 2 * * *",
    "5-55/10 1,2 * * *",
    "45 23 * * *",
    "59 1 * * *",
    "0 3 * * *",
    "0 2 * * SUN",
    "30 0 * * 0,6",
    "10 2 1-31/2 * *",
    "20 2 29 3 *",
    "0 1-23/2 * * *",
    "0-5 2 * * *",
    "30 2 * 3,4,9-11 *",
    "0,15,30,45 0,1,2,3 * * *",
    "1 0-23 * * *",
    "0-59 2 * * *",
    "* * * * *",
    "*/15 * * * *",
    "0 * * * *",
    "30 * * * *",
    "*/30 2 * * *",
    "*/10 0-3 * * *",
    "7 */2 * * *",
    "0 */3 * * *",
    "*/20 1,2,3 * * SAT,SUN",
    "@daily",
];

/// The values of one field.
fn values(field: &str, first: i8, last: i8, names: &[&str]) -> BTreeSet<i8> {
    let number = |text: &str| -> i8 {
        match names.iter().position(|name| *name == text) {
            Some(position) => i8::try_from(position).unwrap(),
            None => text.parse().unwrap(),
        }
    };
    let mut values = BTreeSet::new();
    for part in field.split(',') {
        let (range, step) = part.split_once('/').map_or((part, 1), |(range, step)| (range, number(step)));
        let is_open = part.contains('/') && !range.contains('-');
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (first, last),
            Some((from, to)) => (number(from), number(to)),
            None if is_open => (number(range), last),
            None => (number(range), number(range)),
        };
        values.extend((from..=to).step_by(usize::try_from(step).unwrap()));
    }
    values
}

/// An expression of five fields, read without the library.
struct Expression {
    fields: [BTreeSet<i8>; 5],
    is_interval: bool,
}

impl Expression {
    fn read(text: &str) -> Self {
        const DAYS: [&str; 7] = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"];
        let text = if text == "@daily" { "0 0 * * *" } else { text };
        let fields: Vec<&str> = text.split(' ').collect();
        let [minute, hour, day, month, weekday] = fields[..] else { panic!("not five fields: {text}") };
        // None of these expressions restricts both the day and the weekday.
        assert!(day == "*" || weekday == "*");
        Self {
            fields: [
                values(minute, 0, 59, &[]),
                values(hour, 0, 23, &[]),
                values(day, 1, 31, &[]),
                values(month, 1, 12, &[]),
                values(weekday, 0, 6, &DAYS),
            ],
            is_interval: minute.starts_with('*') || hour.starts_with('*'),
        }
    }

    fn fits(&self, at: DateTime) -> bool {
        let weekday = at.weekday().to_sunday_zero_offset();
        let shown = [at.minute(), at.hour(), at.day(), at.month(), weekday];
        self.fields.iter().zip(shown).all(|(values, shown)| values.contains(&shown))
    }

    /// Those of `minutes` at which it ticks: consecutive minutes, each with the time that the clock shows. An interval ticks in
    /// each minute that fits. For others, the times of the clock are walked through, also skipped ones, and each counts once.
    fn ticks(&self, minutes: &[(Timestamp, DateTime)]) -> Vec<Timestamp> {
        let minute = SignedDuration::from_mins(1);
        let mut ticks = Vec::new();
        let mut latest = minutes[0].1 - minute;
        for (at, shown) in minutes {
            if self.is_interval {
                ticks.extend(self.fits(*shown).then_some(*at));
                continue;
            }
            let mut fits = false;
            while latest < *shown {
                latest += minute;
                fits |= self.fits(latest);
            }
            ticks.extend(fits.then_some(*at));
        }
        ticks
    }
}

/// The instants of 2026 at which a zone's clock changes, found by reading the clock every half hour.
fn changes(zone: &TimeZone) -> Vec<Timestamp> {
    let start: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
    let looks = (0..365 * 48).map(|n| start + SignedDuration::from_mins(30 * n));
    let looks: Vec<_> = looks.map(|at| (at, zone.to_offset(at))).collect();
    looks.windows(2).filter(|pair| pair[0].1 != pair[1].1).map(|pair| pair[1].0).collect()
}

fn system(at: Timestamp) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(at.as_second()).unwrap())
}

#[test]
fn every_expression_ticks_in_every_zone_when_an_oracle_says_over_both_changes() {
    let mut compared = 0;
    for name in ZONES {
        let zone = TimeZone::get(name).unwrap();
        let changes = changes(&zone);
        assert_eq!(changes.len(), 2, "{name} changes its clock twice a year");
        for change in changes {
            let start = change - SignedDuration::from_hours(30);
            let minutes: Vec<_> = (0..60 * 60)
                .map(|n| start + SignedDuration::from_mins(n))
                .map(|at| (at, zone.to_datetime(at)))
                .collect();
            let end = system(minutes.last().unwrap().0);
            for expression in EXPRESSIONS {
                let expected: Vec<_> =
                    Expression::read(expression).ticks(&minutes).into_iter().map(system).collect();
                let cron = Cron::parse(expression).unwrap().timezone(name).unwrap();
                let before = system(start) - Duration::from_secs(1);
                let ticks: Vec<_> = cron.upcoming(before).take_while(|tick| *tick <= end).collect();
                assert_eq!(ticks, expected, "`{expression}` in {name} at {change}");
                // The next tick is the same from every instant before it.
                for (n, (at, _)) in minutes.iter().enumerate().step_by(97) {
                    let after = system(*at) + Duration::from_millis(n as u64 % 1000);
                    let next = expected.iter().find(|tick| **tick > after);
                    let Some(next) = next else { break };
                    assert_eq!(
                        cron.upcoming(after).next(),
                        Some(*next),
                        "`{expression}` in {name} after {at}"
                    );
                }
                compared += ticks.len();
            }
        }
    }
    assert!(compared > 10_000, "{compared}");
}

fn ticks(cron: &str, zone: &str, after: &str, count: usize) -> Vec<String> {
    let cron = Cron::parse(cron).unwrap().timezone(zone).unwrap();
    let ticks = cron.upcoming(system(after.parse().unwrap())).take(count);
    ticks.map(|tick| Timestamp::try_from(tick).unwrap().to_string()).collect()
}

#[test]
fn seconds_do_not_make_a_time_of_day_an_interval() {
    let spring = ticks("*/30 30 2 * * *", "Europe/Berlin", "2026-03-28T12:00:00Z", 3);
    assert_eq!(spring, ["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z", "2026-03-30T00:30:30Z"]);
    let autumn = ticks("*/30 30 2 * * *", "Europe/Berlin", "2026-10-24T12:00:00Z", 3);
    assert_eq!(autumn, ["2026-10-25T00:30:00Z", "2026-10-25T00:30:30Z", "2026-10-26T01:30:00Z"]);
    let both = ticks("0 30 */1 * * *", "Europe/Berlin", "2026-10-25T00:00:00Z", 3);
    assert_eq!(both, ["2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"]);
}

#[test]
fn a_day_that_a_zone_left_out_ticks_when_the_clock_has_moved_on() {
    // Samoa had no 30 December 2011.
    let apia = ticks("0 9 * * *", "Pacific/Apia", "2011-12-29T12:00:00Z", 3);
    assert_eq!(apia, ["2011-12-29T19:00:00Z", "2011-12-30T10:00:00Z", "2011-12-30T19:00:00Z"]);
}

#[test]
fn a_search_for_a_tick_that_never_comes_ends() {
    let began = Instant::now();
    // The clock skips the hour from two of that Sunday each year, and an interval does not tick at times that are skipped.
    let never = Cron::parse("*/5 2 * 3 SUN#L").unwrap().timezone("Europe/Berlin").unwrap();
    assert_eq!(never.upcoming(SystemTime::now()).next(), None);
    let mut rare = Cron::parse("0 0 29 2 +MON").unwrap().upcoming(SystemTime::now());
    assert!(rare.next().is_some() && rare.next().is_some());
    for far in [
        SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40),
        SystemTime::UNIX_EPOCH - Duration::from_secs(1 << 40),
    ] {
        let _ = Cron::parse("* * * * *").unwrap().upcoming(far).next();
        let _ =
            Every::new(Duration::from_secs(24 * 3600)).unwrap().timezone("UTC").unwrap().upcoming(far).next();
    }
    let mut long = Every::new(Every::MAX).unwrap().timezone("UTC").unwrap().upcoming(SystemTime::now());
    assert!(long.by_ref().take(1000).count() < 1000, "the calendar ends");
    assert_eq!(long.next(), None, "and stays at its end");
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
}

#[test]
fn what_comes_next_is_later_than_what_came_and_in_order() {
    let zones: BTreeMap<&str, Vec<SystemTime>> = ZONES
        .into_iter()
        .map(|zone| {
            let daily = Every::new(Duration::from_secs(24 * 3600)).unwrap().timezone(zone).unwrap();
            (zone, daily.upcoming(UNIX_EPOCH + Duration::from_secs(1_767_225_600)).take(400).collect())
        })
        .collect();
    for (zone, midnights) in zones {
        assert!(midnights.is_sorted_by(|a, b| a < b), "{zone}");
        let hours = |pair: &[SystemTime]| pair[1].duration_since(pair[0]).unwrap().as_secs_f64() / 3600.0;
        let odd = midnights.windows(2).map(hours).filter(|hours| (*hours - 24.0).abs() > 0.1).count();
        assert_eq!(odd, 2, "{zone}: two days of the year have another length");
    }
}
