//! `taskflow contexts`: the stores that this machine knows by name.

use serde::Serialize;

use crate::cli::context::{Contexts, color};
use crate::cli::failure::Result;
use crate::cli::options::Global;
use crate::cli::output::{Cell, Color, Column, Table};

#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    store: String,
    production: bool,
    default: bool,
}

pub(in crate::cli) fn run(global: &Global) -> Result<()> {
    let contexts = Contexts::read()?;
    let all = contexts.all().iter();
    let shown: Vec<_> = all
        .map(|(name, it)| Shown {
            name,
            store: it.shown(),
            production: it.production,
            default: contexts.is_default(name),
        })
        .collect();
    let out = global.out();
    if shown.is_empty() && out.is_for_people() {
        let path = contexts.path().map(|path| path.display().to_string()).unwrap_or_default();
        eprintln!("there are none: write them into {path}, as `taskflow contexts --help` shows");
        return Ok(());
    }
    let table = || {
        let mut table =
            Table::new([Column::text("CONTEXT"), Column::text("STORE").least(20), Column::text("")]);
        for it in &shown {
            let production = if it.production { "production" } else { "" };
            let default = if it.default { "default" } else { "" };
            table.push([
                Cell::new(it.name).color(color(contexts.all()[it.name].accent)),
                Cell::new(&it.store),
                Cell::new([production, default].join(" ").trim()).color(Color::Dim),
            ]);
        }
        table
    };
    out.list(table, &serde_json::json!({ "items": shown }), &shown)
}
