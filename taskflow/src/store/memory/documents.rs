//! The documents: small values of other parts of taskflow, such as statistics, by kind and key.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use super::state::later;
use crate::model::time;
use crate::store::{Document, DocumentQuery, DocumentWrite};

#[derive(Debug, Default)]
pub(super) struct Documents {
    kinds: BTreeMap<&'static str, BTreeMap<String, Stored>>,
    /// The documents that expire, the next one first.
    expiring: BTreeSet<(i64, &'static str, String)>,
}

#[derive(Debug)]
struct Stored {
    document: Document,
    expires_at: Option<i64>,
}

impl Stored {
    fn is_there(&self, now: i64) -> bool {
        self.expires_at.is_none_or(|at| at > now)
    }
}

impl Documents {
    pub(super) fn write(&mut self, writes: Vec<DocumentWrite>, now: i64) -> Vec<Option<u64>> {
        writes.into_iter().map(|write| self.write_one(write, now)).collect()
    }

    fn write_one(&mut self, write: DocumentWrite, now: i64) -> Option<u64> {
        let DocumentWrite { kind, key, value, expires_in, expected } = write;
        let stored = self.kinds.get(kind).and_then(|documents| documents.get(&key));
        let version = stored.filter(|it| it.is_there(now)).map_or(0, |it| it.document.version);
        if expected.is_some_and(|expected| expected != version) {
            return None;
        }
        self.remove(kind, &key);
        let Some(value) = value else { return Some(version) };
        let expires_at = expires_in.map(|length| later(now, length));
        if let Some(at) = expires_at {
            self.expiring.insert((at, kind, key.clone()));
        }
        let document = Document::new(key.clone(), version + 1, time::from_micros(now), value);
        self.kinds.entry(kind).or_default().insert(key, Stored { document, expires_at });
        Some(version + 1)
    }

    fn remove(&mut self, kind: &'static str, key: &str) {
        let Some((key, stored)) = self.kinds.get_mut(kind).and_then(|it| it.remove_entry(key)) else {
            return;
        };
        if let Some(at) = stored.expires_at {
            self.expiring.remove(&(at, kind, key));
        }
    }

    pub(super) fn read(&self, query: &DocumentQuery, now: i64) -> Vec<Document> {
        let Some(documents) = self.kinds.get(query.kind) else { return Vec::new() };
        let from = query.from.as_str();
        let before = query.before.as_deref();
        if before.is_some_and(|before| before <= from) {
            return Vec::new();
        }
        let end = before.map_or(Bound::Unbounded, Bound::Excluded);
        let in_range = documents.range::<str, _>((Bound::Included(from), end)).map(|(_, it)| it);
        let there = |it: &Stored| it.is_there(now).then(|| it.document.clone());
        let limit = query.limit.min(Document::MAX_BATCH);
        match query.descending {
            true => in_range.rev().filter_map(there).take(limit).collect(),
            false => in_range.filter_map(there).take(limit).collect(),
        }
    }

    /// Deletes up to `limit` documents that have expired. Answers how many.
    pub(super) fn prune(&mut self, now: i64, limit: usize) -> usize {
        let mut deleted = 0;
        while deleted < limit && self.expiring.first().is_some_and(|(at, ..)| *at <= now) {
            let Some((_, kind, key)) = self.expiring.pop_first() else { break };
            self.remove(kind, &key);
            deleted += 1;
        }
        deleted
    }
}
