//! URLs as text: checks for every URL of a server, and the part of a URL that may be shown.

/// Checks the URL of a server before a driver reads it. Otherwise a piece of the password may become a host, a port, a
/// database or a key, and errors and logs show these.
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(super) fn check_server(url: &str) -> Result<(), String> {
    let Some((_, rest)) = url.split_once("://") else {
        return Err("write `//` after the scheme: `scheme://user:password@host`".to_owned());
    };
    let (authority, tail) = split_authority(rest);
    let user = authority.rsplit_once('@').map(|(user, _)| user);
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let is_torn = match user {
        // Errors show the user name, so it must not contain a part of the password.
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

/// Splits the text after `://` into user, host and port, and the rest.
fn split_authority(rest: &str) -> (&str, &str) {
    rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()))
}

/// The URL as it may be shown, even if it is malformed. Everything that may be a password, or a piece of one, is left
/// out.
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
            // A password in the query may contain an `@`.
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

/// Whether the value of a pair in a query must not be shown. A percent-encoded key counts as secret.
fn is_secret(pair: &str) -> bool {
    let Some((key, _)) = pair.split_once('=') else { return false };
    let key = key.to_ascii_lowercase();
    ["pass", "pwd", "pw", "secret", "token", "%"].iter().any(|word| key.contains(word))
}

/// The error for an unknown key in a URL. The key is named only if it looks like a typing error: any other key may be a
/// piece of a password.
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(super) fn unknown_key(key: &str, known: &[&str]) -> String {
    match crate::model::spelling::closest(key, known.iter().copied()) {
        Some(meant) => format!("there is no key `{key}`; did you mean `{meant}`? "),
        None => "it has an unknown key; if that is a piece of the password, percent-encode it; ".to_owned(),
    }
}
