//! Finds time zones by their IANA names.

use jiff::tz::{TimeZone, TimeZoneDatabase};

use crate::model::Error;
use crate::model::spelling::closest;

/// The zone with this name, from the machine's database or else from the bundled one. UTC if there is no name.
pub(super) fn find(name: Option<&str>) -> Result<TimeZone, String> {
    let Some(name) = name else { return Ok(TimeZone::UTC) };
    let found = TimeZone::get(name).or_else(|_| TimeZoneDatabase::bundled().get(name));
    found.map_err(|_| unknown(name))
}

/// Checks a name and returns it in the database's spelling. Like the attribute, it uses only the bundled database, so that the
/// answer is the same on every machine.
pub(super) fn check(name: &str) -> Result<String, Error> {
    let found = TimeZoneDatabase::bundled().get(name).ok();
    let spelled = found.and_then(|zone| zone.iana_name().map(str::to_owned));
    spelled.ok_or_else(|| Error::Timing { text: name.to_owned(), message: unknown(name) })
}

fn unknown(name: &str) -> String {
    let zones = TimeZoneDatabase::bundled();
    let known: Vec<String> = zones.available().map(|zone| zone.to_string()).collect();
    let hint = suggestion(name, &known).map_or_else(String::new, |zone| format!("; did you mean `{zone}`?"));
    format!("unknown time zone `{name}`{hint}")
}

/// The known zone most similar to `name`, compared by its whole name or by its city.
fn suggestion(name: &str, known: &[String]) -> Option<String> {
    let word = name.replace(' ', "_").to_lowercase();
    let city = |zone: &str| zone.rsplit_once('/').map(|(_, city)| city.to_lowercase());
    let whole: Vec<String> = known.iter().map(|zone| zone.to_lowercase()).collect();
    if let Some(found) = closest(&word, whole.iter().map(String::as_str)) {
        return known.iter().find(|zone| zone.to_lowercase() == found).cloned();
    }
    let cities: Vec<String> = known.iter().filter_map(|zone| city(zone)).collect();
    let found = closest(&word, cities.iter().map(String::as_str))?;
    known.iter().find(|zone| city(zone).as_ref() == Some(&found)).cloned()
}
