//! Modules that use each other, directly or through others.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use super::modules::Import;

/// A knot: modules that all reach each other, and the lines that tie them.
#[derive(Debug)]
pub(crate) struct Knot {
    pub(crate) modules: BTreeSet<String>,
    imports: Vec<Import>,
}

/// All knots in these imports.
pub(crate) fn knots(imports: &BTreeSet<Import>) -> Vec<Knot> {
    let mut uses: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for import in imports {
        uses.entry(&import.from).or_default().insert(&import.to);
    }
    let reached: BTreeMap<&str, BTreeSet<&str>> =
        uses.keys().map(|from| (*from, reach(from, &uses))).collect();
    let mutual = |one: &str, other: &str| {
        let reaches = |from: &str, to: &str| reached.get(from).is_some_and(|reached| reached.contains(to));
        reaches(one, other) && reaches(other, one)
    };
    let mut knots = Vec::new();
    let mut tied = BTreeSet::new();
    for module in reached.keys().filter(|module| mutual(module, module)) {
        if tied.contains(*module) {
            continue;
        }
        let modules: BTreeSet<String> =
            reached.keys().filter(|other| mutual(module, other)).map(|other| (*other).to_owned()).collect();
        tied.extend(modules.iter().cloned());
        let within = |import: &&Import| modules.contains(&import.from) && modules.contains(&import.to);
        // Keeps the first line of each pair.
        let mut imports: Vec<_> = imports.iter().filter(within).cloned().collect();
        imports.dedup_by(|next, first| (&next.from, &next.to) == (&first.from, &first.to));
        knots.push(Knot { modules, imports });
    }
    knots
}

/// All modules that `from` uses, directly or through others.
fn reach<'a>(from: &'a str, uses: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> BTreeSet<&'a str> {
    let (mut reached, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(module) = next.pop() {
        for used in uses.get(module).into_iter().flatten() {
            if reached.insert(*used) {
                next.push(used);
            }
        }
    }
    reached
}

impl fmt::Display for Knot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "these modules use each other: {}",
            self.modules.iter().cloned().collect::<Vec<_>>().join(", ")
        )?;
        for Import { from, to, file, line, path } in &self.imports {
            writeln!(f, "  {from} uses {to}: `{path}` in {}:{line}", file.display())?;
        }
        Ok(())
    }
}
