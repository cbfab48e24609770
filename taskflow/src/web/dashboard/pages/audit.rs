//! The audit log: who did what.

use std::time::SystemTime;

use askama::Template;
use axum::response::Response;

use crate::TaskId;
use crate::admin::{AuditEntry, AuditFilter, AuditOutcome, Face};
use crate::model::Cursor;
use crate::web::call::Call;
use crate::web::dashboard::frame::{self, Frame, query, segment};
use crate::web::dashboard::words::{self, Mark, When, number};
use crate::web::problem::Problem;

#[derive(Template)]
#[template(path = "audit.html")]
struct View {
    f: Frame,
    actor: String,
    action: String,
    target: String,
    actions: &'static [&'static str],
    is_filtered: bool,
    entries: Vec<Shown>,
    older: Option<String>,
}

struct Shown {
    when: When,
    actor: String,
    actor_query: String,
    action: String,
    target: String,
    href: String,
    count: String,
    outcome: Mark,
    detail: String,
    via: &'static str,
    remote: String,
}

const ACTIONS: [&str; 21] = [
    "login",
    "retry",
    "cancel",
    "delete",
    "add",
    "retry_many",
    "cancel_many",
    "delete_many",
    "stop_operation",
    "resume_operation",
    "pause_queue",
    "resume_queue",
    "set_queue",
    "reset_queue",
    "run_schedule",
    "pause_schedule",
    "resume_schedule",
    "remove_schedule",
    "open",
    "rewrap",
    "refused",
];

pub(crate) async fn show(call: Call) -> Result<Response, Problem> {
    let field = |name: &str| call.field(name).filter(|text| !text.is_empty()).map(str::to_owned);
    let (actor, action, target) = (field("actor"), field("action"), field("target"));
    let mut filter = AuditFilter::default();
    (filter.actor, filter.action, filter.target) = (actor.clone(), action.clone(), target.clone());
    filter.after = match call.field("after") {
        None => None,
        Some(text) => {
            let id: TaskId = text
                .parse()
                .map_err(|_| Problem::invalid("after", "it is not a position between two pages"))?;
            Some(Cursor::after(id))
        }
    };
    let (now, beat) = (call.now(), call.state.live.beat(call.console().tasks()).await?);
    let page = call.console().audit_seen_by(&call.actor, filter).await?;
    let older = page.next.map(|next| {
        let fields = [("actor", &actor), ("action", &action), ("target", &target)];
        let pairs = fields.into_iter().filter_map(|(key, value)| Some((key, value.clone()?)));
        query(pairs.chain([("after", next.id().to_string())]))
    });
    let view = View {
        f: Frame::new(&call, "Audit", "audit", Some(&beat)),
        is_filtered: actor.is_some() || action.is_some() || target.is_some(),
        actor: actor.unwrap_or_default(),
        action: action.unwrap_or_default(),
        target: target.unwrap_or_default(),
        actions: &ACTIONS,
        entries: page.items.into_iter().map(|entry| Shown::new(entry, now)).collect(),
        older,
    };
    frame::answer(&call, &view)
}

impl Shown {
    fn new(entry: AuditEntry, now: SystemTime) -> Self {
        let (class, word) = match entry.outcome {
            AuditOutcome::Ok => ("success", "done"),
            AuditOutcome::Refused => ("retrying", "refused"),
            AuditOutcome::Failed => ("failed", "failed"),
        };
        let target = entry.target.or(entry.filter).unwrap_or_default();
        let is_id = target.parse::<TaskId>().is_ok();
        let href = match (is_id, entry.action.as_str()) {
            (true, action) if action.contains("operation") || action.ends_with("_many") => {
                format!("operations/{target}")
            }
            (true, _) => format!("tasks/{target}"),
            (false, action) if action.ends_with("_queue") => format!("queues/{}", segment(&target)),
            (false, action) if action.ends_with("_schedule") => "schedules".to_owned(),
            _ => String::new(),
        };
        let detail = [entry.reason, entry.detail].into_iter().flatten().collect::<Vec<_>>().join(" · ");
        Self {
            when: words::when(entry.at, now),
            actor_query: query([("actor", &entry.actor)]),
            actor: entry.actor,
            action: entry.action.replace('_', " "),
            target,
            href,
            count: entry.count.map(number).unwrap_or_default(),
            outcome: Mark { class, word },
            detail,
            via: match entry.via {
                Face::Dashboard => "dashboard",
                Face::Api => "API",
                Face::Cli => "command line",
                Face::Program => "program",
            },
            remote: entry.remote.unwrap_or_default(),
        }
    }
}
