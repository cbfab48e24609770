//! Queries about tasks.

use super::answer::Answer;
use super::executor::Shared;
use super::{instance, list, queue_stats, record, script};
use crate::model::{Counts, InstanceId, Page, StoreError, TaskFilter, TaskId, TaskRecord};
use crate::store::TaskEnd;

impl Shared {
    pub(super) async fn records(&self, ids: &[TaskId]) -> Result<Vec<TaskRecord>, StoreError> {
        self.records_by(&script::GET, ids).await
    }

    async fn records_by(
        &self,
        script: &'static script::Script,
        ids: &[TaskId],
    ) -> Result<Vec<TaskRecord>, StoreError> {
        let mut call = self.silent(script);
        for id in ids {
            call.arg(id.as_bytes());
        }
        let (mut records, damaged) = record::unpack(self.ask(&call).await?.list()?)?;
        if !damaged.is_empty() {
            self.fail_damaged(&damaged).await?;
            (records, _) = record::unpack(self.ask(&call).await?.list()?)?;
        }
        let mut unknown = instance::named_in(&records);
        {
            let known = self.known.lock();
            unknown.retain(|id| !known.contains_key(id));
        }
        if !unknown.is_empty() {
            self.learn(&unknown).await?;
        }
        record::name_processes(&mut records, &self.known.lock());
        Ok(records)
    }

    pub(super) async fn ends(&self, ids: &[TaskId]) -> Result<Vec<TaskEnd>, StoreError> {
        let mut call = self.silent(&script::ENDS);
        for id in ids {
            call.arg(id.as_bytes());
        }
        let mut answer = self.ask(&call).await?.list()?;
        let mut ends = Vec::with_capacity(ids.len());
        for _ in ids {
            let (stage, error, result) = (answer.number()?, answer.option()?, answer.option()?);
            ends.push(record::end(stage, error, result));
        }
        Ok(ends)
    }

    pub(super) async fn learn(&self, unknown: &[InstanceId]) -> Result<(), StoreError> {
        let mut command = redis::cmd("HMGET");
        command.arg(format!("{}instance", self.prefix));
        for id in unknown {
            command.arg(id.as_bytes());
        }
        // A record can be shown without the names of its processes.
        let Ok(value) = self.connections.ask(&command).await else { return Ok(()) };
        let mut entries = Answer { value, location: &self.connections.location }.list()?;
        let mut known = self.known.lock();
        if known.len() > instance::REMEMBERED {
            known.clear();
        }
        for id in unknown {
            known.extend(entries.option()?.and_then(|json| instance::name(&json)).map(|name| (*id, name)));
        }
        Ok(())
    }

    /// A page. `script` reads its records, in full or as outlines.
    pub(super) async fn list(
        &self,
        filter: &TaskFilter,
        script: &'static script::Script,
    ) -> Result<Page<TaskRecord>, StoreError> {
        let limit = filter.limit.clamp(1, TaskFilter::MAX_LIMIT);
        let counts = if filter.statuses.is_empty() {
            Counts::default()
        } else {
            queue_stats::counts(self.numbers().await?)?
        };
        let sources = list::sources(filter, &counts);
        let (mut page, mut left) = (Page::new(Vec::new(), filter.after), TaskFilter::MAX_LOOKED_AT);
        loop {
            let after = page.next.map(|cursor| cursor.id());
            let wanted = limit - page.items.len();
            let mut call = self.silent(&script::FIND);
            if !list::pack(&mut call, filter, &sources, after, wanted, left) {
                return Ok(page);
            }
            let found = list::unpack(self.ask(&call).await?.list()?, filter.order, after, wanted)?;
            page.next = found.next;
            left = left.saturating_sub(found.looked_at);
            if !found.ids.is_empty() {
                // A task may have changed since it was found.
                let records = self.records_by(script, &found.ids).await?;
                page.items.extend(records.into_iter().filter(|record| filter.matches_base(record)));
            }
            if page.next.is_none() || page.items.len() >= limit {
                return Ok(page);
            }
        }
    }
}
