//! Whether a request that changes something comes from a page of the same origin.
//!
//! Browsers say so in `Sec-Fetch-Site`; old browsers, and all browsers on plain http to another machine, in `Origin`. The rule is
//! that of Go 1.25's `CrossOriginProtection`, except that a request with neither header is allowed only with a bearer token,
//! which a page of another site cannot send.

use http::header::{self, HeaderName};
use http::request::Parts;

use super::headers::text;

const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// Whether the request may change something. `public_origin` is the origin that browsers see, if a proxy changes `Host`.
pub(crate) fn is_own(parts: &Parts, public_origin: Option<&str>) -> bool {
    if parts.method.is_safe() {
        return true;
    }
    if let Some(site) = text(&parts.headers, &SEC_FETCH_SITE) {
        return site == "same-origin";
    }
    if parts.headers.contains_key(header::ORIGIN) {
        // A value that is not text is no origin of this site. `null` has no authority, so it never matches.
        let origin = text(&parts.headers, &header::ORIGIN).unwrap_or_default();
        return match public_origin {
            Some(public) => origin.eq_ignore_ascii_case(public.trim_end_matches('/')),
            None => host(parts).is_some_and(|host| {
                origin.split_once("://").is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(host))
            }),
        };
    }
    has_bearer(parts)
}

/// The host that the client asked for.
pub(crate) fn host(parts: &Parts) -> Option<&str> {
    parts.uri.authority().map(http::uri::Authority::as_str).or_else(|| text(&parts.headers, &header::HOST))
}

fn has_bearer(parts: &Parts) -> bool {
    bearer(parts).is_some()
}

/// The token of `Authorization: Bearer`.
pub(crate) fn bearer(parts: &Parts) -> Option<&str> {
    let (scheme, token) = text(&parts.headers, &header::AUTHORIZATION)?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(method: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().method(method).uri("/admin/tasks");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    #[test]
    fn only_own_pages_and_bearers_change_something() {
        let host = ("host", "shop.example:8080");
        let cases: [(&[(&str, &str)], bool); 11] = [
            (&[host, ("sec-fetch-site", "same-origin")], true),
            (&[host, ("sec-fetch-site", "same-site")], false),
            (&[host, ("sec-fetch-site", "cross-site"), ("origin", "http://shop.example:8080")], false),
            (&[host, ("sec-fetch-site", "none")], false),
            (&[host, ("origin", "http://shop.example:8080")], true),
            (&[host, ("origin", "http://shop.example")], false),
            (&[host, ("origin", "https://evil.example")], false),
            (&[host, ("origin", "null")], false),
            (&[host], false),
            (&[host, ("authorization", "Bearer tf_x")], true),
            (&[host, ("authorization", "Bearer tf_x"), ("origin", "https://evil.example")], false),
        ];
        for (headers, want) in cases {
            assert_eq!(is_own(&asked("POST", headers), None), want, "{headers:?}");
            assert!(is_own(&asked("GET", headers), None), "{headers:?}");
        }
    }

    #[test]
    fn behind_a_proxy_the_public_origin_counts() {
        let headers = [("host", "127.0.0.1:3000"), ("origin", "https://shop.example")];
        assert!(is_own(&asked("POST", &headers), Some("https://shop.example")));
        assert!(!is_own(&asked("POST", &headers), Some("https://other.example")));
        assert!(!is_own(&asked("POST", &headers), None));
    }
}
