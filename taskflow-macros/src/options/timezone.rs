//! Checks time zone names with a bundled database, so that the result does not depend on the build machine.

use jiff::tz::TimeZoneDatabase;

use super::suggest::closest;

/// The name of the zone as the database spells it, or an error text.
pub(super) fn check(name: &str) -> Result<String, String> {
    let zones = TimeZoneDatabase::bundled();
    if let Some(found) = zones.get(name).ok().and_then(|zone| zone.iana_name().map(str::to_owned)) {
        return Ok(found);
    }
    let known: Vec<String> = zones.available().map(|zone| zone.to_string()).collect();
    let hint = suggestion(name, &known).map_or_else(String::new, |zone| format!("; did you mean `{zone}`?"));
    Err(format!("unknown time zone `{name}`{hint}\nhelp: expected a name such as `Europe/Berlin` or `UTC`"))
}

/// The known zone most similar to `name`, compared by its whole name or by its city.
fn suggestion<'a>(name: &str, known: &'a [String]) -> Option<&'a str> {
    let word = name.replace(' ', "_");
    closest(&word, known.iter().map(String::as_str)).or_else(|| {
        let city = |zone: &'a String| zone.rsplit_once('/').map(|(_, city)| city);
        let wanted = closest(&word, known.iter().filter_map(city))?;
        known.iter().find(|zone| city(zone) == Some(wanted)).map(String::as_str)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_known_by_its_name() {
        for zone in ["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires", "Asia/Kolkata"] {
            assert_eq!(check(zone).as_deref(), Ok(zone));
        }
        assert_eq!(check("europe/berlin").as_deref(), Ok("Europe/Berlin"));
    }

    #[test]
    fn an_unknown_zone_is_refused_with_the_likely_one() {
        for (zone, likely) in
            [("Europe/Berln", "Europe/Berlin"), ("Berlin", "Europe/Berlin"), ("new york", "America/New_York")]
        {
            let error = check(zone).unwrap_err();
            assert!(error.contains(&format!("did you mean `{likely}`?")), "{error}");
        }
        assert!(!check("Nowhere/Atall").unwrap_err().contains("did you mean"));
        for zone in ["", "+02:00", "CEST5"] {
            assert!(check(zone).is_err(), "{zone}");
        }
    }
}
