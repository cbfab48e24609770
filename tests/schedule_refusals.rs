//! What the attribute refuses at compile time, `Cron` and `Every` refuse at run time, with the same words.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

use std::path::Path;
use std::time::Duration;

use taskflow::{Cron, Error, Every};

/// The compiler's errors for the examples that `compile_fail.rs` checks, one line each.
fn said_by_the_compiler(file: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("ui/schedule/fail").join(file);
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().filter_map(|line| line.strip_prefix("error: ")).map(str::to_owned).collect()
}

fn message<T: std::fmt::Debug>(refused: Result<T, Error>) -> String {
    match refused {
        Err(Error::Timing { message, .. }) => message,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn cron_expressions_are_refused_in_the_same_words() {
    let refused: Vec<String> = ["0 3 * *", "0 25 * * *", "0 0 30 2 *", "@dayly", "every day at noon"]
        .map(|expression| message(Cron::parse(expression)))
        .into();
    assert_eq!(refused, said_by_the_compiler("cron_wrong.stderr"));
    assert_eq!(message(Cron::parse("@reboot")), "unknown nickname `@reboot`");
    assert!(message(Cron::parse("ä * * * *")).starts_with("not a cron expression: "));
    assert!(Cron::parse(" 0 3 * * * ").is_ok() && Cron::parse("@hourly").is_ok());
}

#[test]
fn zones_are_refused_in_the_same_words_and_spelled_as_the_table_does() {
    let daily = || Cron::parse("0 3 * * *").unwrap();
    let mut refused: Vec<String> =
        ["Europe/Berln", "+02:00"].map(|zone| message(daily().timezone(zone))).into();
    let hour = Every::new(Duration::from_secs(3600)).unwrap();
    refused.push(message(hour.timezone("Europe/Berlin")));
    assert_eq!(refused, said_by_the_compiler("timezone_wrong.stderr"));
    for (zone, likely) in [("Berlin", "Europe/Berlin"), ("new york", "America/New_York")] {
        assert!(message(daily().timezone(zone)).ends_with(&format!("did you mean `{likely}`?")), "{zone}");
    }
    for zone in ["", "CEST5", "posixrules", "localtime"] {
        message(daily().timezone(zone));
    }
    assert_eq!(daily().timezone("europe/berlin").unwrap(), daily().timezone("Europe/Berlin").unwrap());
}

#[test]
fn lengths_are_refused_in_the_same_words() {
    let said = said_by_the_compiler("every_wrong.stderr");
    let refused = |length| message(Every::new(length));
    assert_eq!(refused(Duration::ZERO), said[0]);
    assert_eq!(refused(Duration::from_millis(10)), said[1]);
    assert_eq!(refused(Duration::from_secs(40_000 * 86_400)), said[3]);
    assert_eq!(refused(Duration::MAX), said[3]);
    assert!(Every::new(Every::MIN).is_ok() && Every::new(Every::MAX).is_ok());
    for hours in [12, 36] {
        let length = Every::new(Duration::from_secs(hours * 3600)).unwrap();
        assert!(message(length.timezone("Asia/Tokyo")).contains("whole days"), "{hours} h");
    }
    let day_and_a_bit = Every::new(Duration::from_millis(24 * 3600 * 1000 + 1)).unwrap();
    assert!(day_and_a_bit.timezone("UTC").is_err());
    assert!(Every::new(Duration::from_secs(48 * 3600)).unwrap().timezone("Asia/Tokyo").is_ok());
}
