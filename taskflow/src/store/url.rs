//! URLs as text: what every URL of a server must be, and how much of one may be shown.

/// What every URL of a server must be, before a driver reads it: else a piece of the password may become a host, a port,
/// a database or a key, which errors and logs name.
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(super) fn check_server(url: &str) -> Result<(), String> {
    let Some((_, rest)) = url.split_once("://") else {
        return Err("write `//` behind the scheme: `scheme://user:password@host`".to_owned());
    };
    let (authority, tail) = split_authority(rest);
    let user = authority.rsplit_once('@').map(|(user, _)| user);
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let is_torn = match user {
        // The name of a user is shown.
        Some(user) => !user.contains(':') && user.to_ascii_lowercase().contains("%3a"),
        None => {
            !authority.ends_with(']') && authority.rsplit_once(':').is_some_and(|(_, port)| !is_port(port))
        }
    };
    if is_torn || tail.contains('@') {
        return Err(format!(
            "it is not clear where its password ends; percent-encode each `/`, `?`, `#` and `@` in user name, password \
             and query (`%2F`, `%3F`, `%23`, `%40`), and not the `:` between user name and password{}",
            if user.is_none() { "; write `//user:password@host`" } else { "" }
        ));
    }
    Ok(())
}

/// The user, host and port of what follows `://`, and what follows them.
fn split_authority(rest: &str) -> (&str, &str) {
    rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()))
}

/// The URL as it may be shown, whatever is wrong with it. What may be a password, or a piece of one, is left out.
pub(super) fn without_password(url: &str) -> String {
    let is_word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.' | '_');
    let Some((scheme, rest)) = url.split_once("://").filter(|(scheme, _)| scheme.chars().all(is_word)) else {
        return match url.split_once(':') {
            None if url.contains('@') => "***".to_owned(),
            None => url.to_owned(),
            Some((scheme @ ("memory" | "sqlite" | "file"), rest)) if !rest.contains('@') => {
                format!("{scheme}:{rest}")
            }
            Some((scheme, _)) if scheme.chars().all(is_word) => format!("{scheme}:***"),
            Some(_) => "***".to_owned(),
        };
    };
    let hidden = format!("{scheme}://***");
    let (user, tail) = match rest.rsplit_once('@') {
        Some((before, tail)) => {
            // A password in the query may have an `@` of its own.
            if before.split(['?', '&']).skip(1).any(is_secret) {
                return hidden;
            }
            match before.split_once(':') {
                Some((user, _)) if user.chars().all(is_word) => (format!("{user}:***@"), tail),
                _ => ("***@".to_owned(), tail),
            }
        }
        None => (String::new(), rest),
    };
    let (authority, tail) = split_authority(tail);
    let host =
        authority.strip_prefix('[').and_then(|host| host.split_once(']')).map_or(authority, |(_, port)| port);
    if host.split_once(':').is_some_and(|(_, port)| !port.bytes().all(|byte| byte.is_ascii_digit())) {
        return if user.is_empty() { hidden } else { format!("{scheme}://{user}***") };
    }
    let (tail, fragment) = tail.split_once('#').map_or((tail, ""), |(tail, _)| (tail, "#***"));
    let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
    let shown = |pair: &str| match pair.split_once('=') {
        Some((key, _)) if is_secret(pair) => format!("{key}=***"),
        Some(_) => pair.to_owned(),
        None => "***".to_owned(),
    };
    let query: Vec<String> = query.split('&').filter(|pair| !pair.is_empty()).map(shown).collect();
    let mark = if query.is_empty() { "" } else { "?" };
    format!("{scheme}://{user}{authority}{path}{mark}{}{fragment}", query.join("&"))
}

/// Whether the value of a pair in a query is one to keep to oneself. A key may be percent-encoded: then it is.
fn is_secret(pair: &str) -> bool {
    let Some((key, _)) = pair.split_once('=') else { return false };
    let key = key.to_ascii_lowercase();
    ["pass", "pwd", "pw", "secret", "token", "%"].iter().any(|word| key.contains(word))
}

/// The error for a key that a URL has and no store knows. It is named only where it is a slip of the hand: anything else
/// may be a piece of a password.
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(super) fn unknown_key(key: &str, known: &[&str]) -> String {
    match crate::model::error::closest(key, known.iter().copied()) {
        Some(meant) => format!("there is no key `{key}`; did you mean `{meant}`? "),
        None => "it has a key that is not known; if that is a piece of the password, percent-encode it; "
            .to_owned(),
    }
}
