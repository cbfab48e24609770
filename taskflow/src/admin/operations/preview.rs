use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::Serialize;

use super::operation::{MAX_IDS, Selection, Verb, freeze};
use crate::admin::{Actor, AdminError, Console};
use crate::model::{Error, TaskFilter, TaskRecord, time};

/// How many tasks are shown as examples.
const SAMPLE: usize = 3;

/// What an act on many tasks would do.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct Preview {
    /// How many tasks it would act on; a lower bound if `exact` is false.
    pub matching: u64,
    /// Whether `matching` is exact. For a filter, counting ends at 20,000 matches, or when 20,000 tasks in a row have fewer than
    /// 1,000 matches.
    pub exact: bool,
    /// The instant of the preview. Pass it to [`Console::begin`], so that an act by filter leaves alone tasks that were
    /// added or ended later.
    #[serde(with = "time::rfc3339_serde")]
    pub frozen_at: SystemTime,
    /// The first three of them, without arguments, results, progress and attempts.
    pub sample: Vec<TaskRecord>,
    /// How many of them have each name.
    pub by_name: BTreeMap<String, u64>,
}

impl Console {
    /// Returns what an act on these tasks would do now.
    ///
    /// # Errors
    /// [`AdminError::Forbidden`] without the permission of the verb, [`Error::EmptyFilter`] for a filter without a condition,
    /// [`AdminError::Invalid`] for more than 1,000 ids, and when the store fails.
    pub async fn preview(
        &self,
        actor: &Actor,
        verb: Verb,
        selection: &Selection,
    ) -> Result<Preview, AdminError> {
        self.preview_at(actor, verb, selection, self.now()).await
    }

    pub(super) async fn preview_at(
        &self,
        actor: &Actor,
        verb: Verb,
        selection: &Selection,
        frozen_at: SystemTime,
    ) -> Result<Preview, AdminError> {
        let permission = verb.permission();
        if !actor.may(permission) {
            return Err(AdminError::Forbidden { actor: actor.name().to_owned(), permission });
        }
        let mut preview =
            Preview { matching: 0, exact: true, frozen_at, sample: Vec::new(), by_name: BTreeMap::new() };
        match selection {
            Selection::Ids(ids) => {
                check_number(ids.len())?;
                for id in ids {
                    let record = self.tasks().get(*id).await?;
                    let may = |record: &TaskRecord| actor.sees(record) && verb.applies_to(record.status);
                    record.filter(may).into_iter().for_each(|record| preview.count(record));
                }
            }
            Selection::Filter(filter) => {
                let mut filter = deliberate(actor, filter)?;
                filter = freeze(filter, verb, frozen_at).limit(TaskFilter::MAX_LIMIT);
                loop {
                    let page = self.tasks().list_outlines(&filter).await?;
                    // A short page has examined 20,000 tasks: the search ends there.
                    let is_full = page.items.len() >= filter.limit;
                    page.items.into_iter().for_each(|record| preview.count(record));
                    let Some(next) = page.next else { break };
                    if !is_full || preview.matching >= TaskFilter::MAX_LOOKED_AT as u64 {
                        preview.exact = false;
                        break;
                    }
                    filter.after = Some(next);
                }
            }
        }
        Ok(preview)
    }
}

impl Preview {
    fn count(&mut self, mut record: TaskRecord) {
        self.matching += 1;
        *self.by_name.entry(record.name.clone()).or_default() += 1;
        if self.sample.len() < SAMPLE {
            record.outline();
            self.sample.push(record);
        }
    }
}

pub(super) fn check_number(ids: usize) -> Result<(), AdminError> {
    match ids {
        0 => Err(AdminError::Invalid { field: "ids".to_owned(), message: "no id is given".to_owned() }),
        1..=MAX_IDS => Ok(()),
        _ => {
            let message = format!("there are {ids} ids; at most {MAX_IDS} are possible, use a filter");
            Err(AdminError::Invalid { field: "ids".to_owned(), message })
        }
    }
}

/// The filter, narrowed to tasks that this actor may see. Refuses a filter without a condition.
pub(super) fn deliberate(actor: &Actor, filter: &TaskFilter) -> Result<TaskFilter, AdminError> {
    match filter.is_deliberate() {
        true => Ok(actor.narrow(filter.clone())),
        false => Err(Error::EmptyFilter.into()),
    }
}
