//! The three files that pages load. They are embedded in the program, under names with a hash, so browsers keep them for ever.

use std::sync::LazyLock;

use axum::body::Body;
use axum::response::Response;
use http::{HeaderValue, header};
use sha2::{Digest, Sha256};

use crate::web::call::Call;
use crate::web::problem::Problem;

const CSS: &str = include_str!("../assets/app.css");
const JS: &str = include_str!("../assets/app.js");
const ICON: &str = include_str!("../assets/icon.svg");

/// The colours of the icon, by environment.
const COLOURS: [(&str, &str); 6] = [
    ("", "#3b5bdb"),
    ("gray", "#565c66"),
    ("green", "#26803a"),
    ("blue", "#1769b5"),
    ("orange", "#bd4207"),
    ("red", "#c9203a"),
];

pub(crate) static CSS_NAME: LazyLock<String> = LazyLock::new(|| format!("app.{}.css", hash(CSS)));
pub(crate) static JS_NAME: LazyLock<String> = LazyLock::new(|| format!("app.{}.js", hash(JS)));
static ICON_HASH: LazyLock<String> = LazyLock::new(|| hash(ICON));

/// The name of the icon in the colour of an environment; `""` is the colour without an environment.
pub(crate) fn icon_name(accent: &str) -> String {
    format!("icon-{accent}.{}.svg", &*ICON_HASH)
}

fn hash(text: &str) -> String {
    Sha256::digest(text)[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// One of the files.
pub(crate) async fn show(call: Call) -> Result<Response, Problem> {
    let name = call.param("file");
    let (kind, text) = if *name == **CSS_NAME {
        ("text/css; charset=utf-8", CSS.to_owned())
    } else if *name == **JS_NAME {
        ("text/javascript; charset=utf-8", JS.to_owned())
    } else {
        let found = COLOURS.iter().find(|(accent, _)| name == icon_name(accent));
        let (_, colour) = found.ok_or_else(|| Problem::not_found("there is no such file"))?;
        ("image/svg+xml", ICON.replace(COLOURS[0].1, colour))
    };
    let mut response = Response::new(Body::from(text));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    let forever = HeaderValue::from_static("public, max-age=31536000, immutable");
    headers.insert(header::CACHE_CONTROL, forever);
    Ok(response)
}
