//! Cron expressions: five fields, or six with the seconds first.

use croner::parser::{CronParser, Seconds, Year};

use super::suggest::did_you_mean;

const NICKNAMES: &[&str] = &["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@hourly"];

/// Checks that the expression is valid and fires at some time.
pub(super) fn check(expression: &str) -> Result<(), String> {
    let expression = expression.trim();
    if expression.starts_with('@') {
        if NICKNAMES.contains(&expression) {
            return Ok(());
        }
        let hint = did_you_mean(expression, NICKNAMES.iter().copied());
        return Err(format!("unknown nickname `{expression}`{hint}"));
    }
    let fields = expression.split_whitespace().count();
    if !(5..=6).contains(&fields) {
        return Err(format!(
            "a cron expression has 5 fields (minute, hour, day, month, weekday) or 6 (the second before them); \
             this one has {fields}"
        ));
    }
    let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
    let cron = parser.parse(expression).map_err(|error| reason(&error.to_string()))?;
    // A fixed start far from the ends of the calendar. Each weekday falls on each date within 40 years after it.
    let start = jiff::civil::date(2000, 1, 1).at(0, 0, 0, 0);
    match cron.find_next_occurrence(&start, true) {
        Ok(_) => Ok(()),
        Err(_) => Err("this cron expression never fires: no such date exists".to_owned()),
    }
}

/// The parser's error text without its heading, in the style of our own errors.
fn reason(text: &str) -> String {
    let text = text.split_once(": ").map_or(text, |(_, reason)| reason).trim_end_matches('.');
    let mut rest = text.chars();
    let first = rest.next().map(|first| first.to_lowercase().to_string()).unwrap_or_default();
    format!("not a cron expression: {first}{}", rest.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_that_fires_is_accepted() {
        for cron in [
            "* * * * *",
            "*/5 * * * *",
            "0 3 * * MON-FRI",
            "30 0 3 * * *",
            "0 0 29 2 *",
            "0 0 L * *",
            "0 12 1W * *",
            "0 9 * * MON#1",
            "@daily",
            " 0 3 * * * ",
            "0 0 1,15 JAN-JUN *",
            "0 0 29 2 +MON",
            "0 0 * * FRI#L",
        ] {
            assert_eq!(check(cron), Ok(()), "{cron}");
        }
    }

    #[test]
    fn any_other_expression_is_refused_with_a_reason() {
        for (cron, why) in [
            ("", "this one has 0"),
            ("* * * *", "this one has 4"),
            ("0 0 0 1 1 * 2030", "this one has 7"),
            ("61 * * * *", "not a cron expression"),
            ("a b c d e", "not a cron expression"),
            ("0 0 30 2 *", "never fires"),
            ("0 0 31 4,6 *", "never fires"),
            ("@dayly", "did you mean `@daily`?"),
            ("@reboot", "unknown nickname"),
            ("ä * * * *", "not a cron expression"),
        ] {
            let error = check(cron).unwrap_err();
            assert!(error.contains(why), "{cron}: {error}");
        }
    }
}
