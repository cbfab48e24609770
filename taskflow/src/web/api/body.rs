//! The fields of JSON bodies. A field that a route does not have is refused. `null` can be told from a field that is absent.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use http::header::CONTENT_TYPE;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::admin::{AdminError, By, grammar};
use crate::model::spelling::closest;
use crate::web::call::Call;
use crate::web::problem::Problem;

/// The longest reason, in characters.
const MAX_REASON: usize = 500;

/// The JSON object of a request.
#[derive(Debug)]
pub(super) struct Fields {
    fields: BTreeMap<String, Box<RawValue>>,
    now: SystemTime,
}

impl Fields {
    /// Reads the body. A missing body counts as an empty object.
    pub(super) async fn read(call: &Call, known: &[&str]) -> Result<Self, Problem> {
        let fields = match call.header(&CONTENT_TYPE) {
            Some(_) => call.json().await?,
            // Without a body, no type is needed. A body without a type is refused: a page of another site can send that.
            None if call.bytes(0).await.is_ok() => BTreeMap::new(),
            None => call.json().await?,
        };
        Self::known(fields, "", known, call.now())
    }

    /// The object in a field.
    pub(super) fn within(&mut self, field: &str, known: &[&str]) -> Result<Option<Self>, Problem> {
        let fields = self.take::<BTreeMap<String, Box<RawValue>>>(field, "an object")?;
        fields.map(|fields| Self::known(fields, field, known, self.now)).transpose()
    }

    fn known(
        fields: BTreeMap<String, Box<RawValue>>,
        below: &str,
        known: &[&str],
        now: SystemTime,
    ) -> Result<Self, Problem> {
        let unknown = fields.keys().find(|field| !known.contains(&field.as_str()));
        if let Some(field) = unknown {
            let message = match closest(field, known.iter().copied()) {
                Some(one) => format!("there is no such field; did you mean `{one}`?"),
                None if known.is_empty() => "the body of this route has no fields".to_owned(),
                None => format!("there is no such field; there are {}", known.join(", ")),
            };
            let path = if below.is_empty() { field.clone() } else { format!("{below}.{field}") };
            return Err(Problem::invalid(&path, message));
        }
        Ok(Self { fields, now })
    }

    /// The value of a field; `None` if it is absent or `null`.
    pub(super) fn take<T: DeserializeOwned>(
        &mut self,
        field: &str,
        what: &str,
    ) -> Result<Option<T>, Problem> {
        Ok(self.take_or_null(field, what)?.flatten())
    }

    /// The value of a field; `None` if it is absent, and `Some(None)` if it is `null`.
    pub(super) fn take_or_null<T: DeserializeOwned>(
        &mut self,
        field: &str,
        what: &str,
    ) -> Result<Option<Option<T>>, Problem> {
        let Some(json) = self.fields.remove(field) else { return Ok(None) };
        match serde_json::from_str(json.get()) {
            Ok(value) => Ok(Some(value)),
            Err(_) => Err(Problem::invalid(field, format!("it must be {what}"))),
        }
    }

    /// Whether a field is there and is `null`.
    pub(super) fn is_null(&self, field: &str) -> bool {
        self.fields.get(field).is_some_and(|json| json.get() == "null")
    }

    /// The text of a field.
    pub(super) fn text(&mut self, field: &str) -> Result<Option<String>, Problem> {
        self.take(field, "text")
    }

    /// The JSON of a field.
    pub(super) fn json(&mut self, field: &str) -> Option<Box<RawValue>> {
        self.fields.remove(field)
    }

    /// A length in seconds.
    pub(super) fn seconds(&mut self, field: &str) -> Result<Option<Duration>, Problem> {
        let Some(seconds) = self.take::<f64>(field, "a number of seconds")? else { return Ok(None) };
        let length = Duration::try_from_secs_f64(seconds);
        length.map(Some).map_err(|_| Problem::invalid(field, "it must be a number of seconds, at least 0"))
    }

    /// An instant: RFC 3339, a date, or a length such as `-6h`.
    pub(super) fn instant(&mut self, field: &str) -> Result<Option<SystemTime>, Problem> {
        let Some(text) = self.text(field)? else { return Ok(None) };
        Ok(Some(grammar::instant(field, &text, self.now)?))
    }

    /// The actor, with the `reason` that it gives.
    pub(super) fn by(&mut self, call: &Call) -> Result<By, Problem> {
        let reason = self.text("reason")?;
        if reason.as_ref().is_some_and(|reason| reason.chars().count() > MAX_REASON) {
            let message = format!("a reason has at most {MAX_REASON} characters");
            return Err(AdminError::Invalid { field: "reason".to_owned(), message }.into());
        }
        Ok(call.by().reason(reason))
    }
}

/// The actor of a request that may give only a reason.
pub(super) async fn by(call: &Call) -> Result<By, Problem> {
    Fields::read(call, &["reason"]).await?.by(call)
}
