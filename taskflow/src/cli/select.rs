//! Which tasks a verb is about: ids, beginnings of ids, or the words of a filter.

use taskflow::admin::grammar::{self, Search};
use taskflow::model::Cursor;
use taskflow::{TaskFilter, TaskId};

use super::failure::{Code, Failure, Result};
use super::session::Session;

/// The shortest beginning of an id.
const SHORTEST: usize = 8;

/// How many ids an error lists if several begin alike.
const TOLD: usize = 5;

/// The tasks of a verb.
#[derive(Clone, Debug)]
pub(super) enum Selected {
    Ids(Vec<TaskId>),
    Filter(Box<TaskFilter>),
}

/// Whether a word is an id or the beginning of one.
pub(super) fn is_id(word: &str) -> bool {
    word.len() >= SHORTEST && word.chars().all(|c| c.is_ascii_hexdigit() || c == '-')
}

/// The filter of these words.
pub(super) async fn filter(session: &Session, words: &[String]) -> Result<TaskFilter> {
    if let Some(id) = words.iter().find(|word| is_id(word)) {
        return Err(Failure::usage(format!("`{id}` is an id: `taskflow show {id}`")));
    }
    let mut search = Search::default();
    for word in words {
        let read = Search::parse(&quoted(word))?;
        search.pairs.extend(read.pairs);
        search.bare.extend(read.bare);
    }
    let known = match search.bare.is_empty() {
        true => Vec::new(),
        false => session.tasks().tasks().await?,
    };
    let names: Vec<_> = known.iter().map(|task| task.name.as_str()).collect();
    let pairs = search.expand(&names)?;
    Ok(grammar::filter(pairs.iter().map(|(word, value)| (&**word, &**value)), std::time::SystemTime::now())?)
}

/// The tasks that these words mean.
pub(super) async fn select(session: &Session, words: &[String], is_all: bool) -> Result<Selected> {
    let ids = words.iter().filter(|word| is_id(word)).count();
    match ids {
        0 if words.is_empty() && is_all => Ok(Selected::Filter(Box::new(TaskFilter::all()))),
        0 if words.is_empty() => {
            Err(Failure::usage("name the tasks: ids, or words such as `status:failed queue:mail since:6h`")
                .hint("`--all` means every task"))
        }
        0 => Ok(Selected::Filter(Box::new(filter(session, words).await?))),
        _ if is_all => Err(Failure::usage("give either ids or `--all`")),
        n if n < words.len() => Err(Failure::usage("give either ids or the words of a filter")),
        _ => {
            let mut ids = Vec::with_capacity(ids);
            for word in words {
                let id = self::id(session, word).await?;
                if !ids.contains(&id) {
                    ids.push(id);
                }
            }
            Ok(Selected::Ids(ids))
        }
    }
}

/// The one task whose id is this text or begins with it.
pub(super) async fn id(session: &Session, text: &str) -> Result<TaskId> {
    if let Ok(id) = text.parse::<TaskId>() {
        return Ok(id);
    }
    if !is_id(text) {
        return Err(Failure::usage(format!(
            "`{text}` is not the id of a task: that is a UUID, or its first {SHORTEST} characters and more"
        )));
    }
    let digits: String = text.chars().filter(|c| *c != '-').map(|c| c.to_ascii_lowercase()).collect();
    let not_found = || Failure::not_found(format!("there is no task whose id begins with `{text}`"));
    if digits.len() > 32 {
        return Err(not_found());
    }
    // Newer ids are greater, and a list is newest first. So it begins at the greatest id with that beginning.
    let greatest: TaskId = format!("{digits:f<32}").parse().map_err(|_| not_found())?;
    let filter = TaskFilter::all().after(Cursor::after(greatest)).limit(TOLD + 1);
    let page = session.tasks().list_outlines(&filter).await?;
    let begins = |id: &TaskId| id.to_string().replace('-', "").starts_with(&digits);
    let found: Vec<_> = page.items.iter().map(|task| task.id).filter(begins).collect();
    match found[..] {
        [] => Err(not_found()),
        [id] => Ok(id),
        _ => {
            let told: Vec<_> = found.iter().take(TOLD).map(ToString::to_string).collect();
            let more = if found.len() > TOLD { " and others" } else { "" };
            Err(Failure::new(Code::Usage, format!("several ids begin with `{text}`"))
                .hint(format!("{}{more}", told.join("\n"))))
        }
    }
}

/// Puts back the quotes of a value with spaces: a shell has removed them from `error:"timed out"`.
fn quoted(word: &str) -> String {
    let Some((name, value)) = word.split_once(':') else { return word.to_owned() };
    let is_json = name.starts_with("arg.") && serde_json::from_str::<serde_json::Value>(value).is_ok();
    if is_json || value.starts_with('"') || !value.contains(char::is_whitespace) {
        return word.to_owned();
    }
    let escaped = value.replace('\\', "\\\\").replace('"', "\\\"");
    format!("{name}:\"{escaped}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_with_spaces_needs_no_quotes_of_its_own() {
        for (word, quoted) in [
            ("error:timed out", "error:\"timed out\""),
            ("error:say \"no\" now", "error:\"say \\\"no\\\" now\""),
            ("error:\"timed out\"", "error:\"timed out\""),
            ("arg.to:Ada Lovelace", "arg.to:\"Ada Lovelace\""),
            ("arg.list:[1, 2]", "arg.list:[1, 2]"),
            ("status:failed", "status:failed"),
            ("mail", "mail"),
        ] {
            assert_eq!(super::quoted(word), quoted);
        }
    }

    #[test]
    fn the_beginning_of_an_id_has_eight_digits() {
        assert!(is_id("0193a1b2") && is_id("0193a1b2-c3d4-7abc-8000-000000000000"));
        assert!(!is_id("0193a1b") && !is_id("send_email") && !is_id("status:failed"));
    }
}
