//! Reads the catalogues of all live processes.

use std::collections::HashMap;
use std::sync::Arc;

use super::content::{CONTENT, Catalogue, OWNER};
use crate::engine::core::Core;
use crate::model::{InstanceInfo, StoreError, StoreErrorKind};
use crate::store::{Document, DocumentQuery};

/// The live processes, and what those that run tasks know.
#[derive(Debug)]
pub(crate) struct Live {
    /// All live processes, oldest first.
    pub(crate) instances: Vec<InstanceInfo>,
    /// The catalogues of those that have stored one, in the same order. Processes of one program share theirs.
    pub(crate) catalogues: Vec<Arc<Catalogue>>,
}

/// Reads the live processes and their catalogues. If the store keeps no documents, the only catalogue is that of this
/// process.
pub(crate) async fn live(core: &Core) -> Result<Live, StoreError> {
    let instances = core.read("a read", core.store.instances()).await?;
    let mut hashes = match owners(core).await {
        Err(error) if error.kind() == StoreErrorKind::Unsupported => HashMap::new(),
        hashes => hashes?,
    };
    let own = core.catalogues.own();
    let mut catalogues = Vec::new();
    let mut live_hashes = Vec::new();
    let mut has_own = false;
    for instance in &instances {
        if let (Some(own), true) = (own, instance.id == core.instance.id) {
            has_own = true;
            catalogues.push(own.clone());
        } else if let Some(hash) = hashes.remove(&instance.id.to_string()) {
            // A catalogue is missing, for example, if this version cannot read its text.
            catalogues.extend(catalogue(core, &hash).await?);
            live_hashes.push(hash);
        }
    }
    // The store may not have noticed yet that this process is back after an outage.
    catalogues.extend(own.filter(|_| !has_own).cloned());
    core.catalogues.keep_only(|hash| live_hashes.iter().any(|live| live == hash));
    Ok(Live { instances, catalogues })
}

/// The hash of the catalogue of each process, including some processes that have died recently.
async fn owners(core: &Core) -> Result<HashMap<String, String>, StoreError> {
    let mut found = HashMap::new();
    let mut query = DocumentQuery::all(OWNER);
    loop {
        let page = core.aside(core.store.documents(query.clone())).await?;
        let is_last = page.len() < Document::MAX_BATCH;
        if let Some(last) = page.last() {
            query.from = format!("{}\0", last.key);
        }
        let hash = |it: Document| Some((it.key, String::from_utf8(it.value).ok()?));
        found.extend(page.into_iter().filter_map(hash));
        if is_last {
            return Ok(found);
        }
    }
}

/// The catalogue with this hash, if the store has it and this version can read it.
async fn catalogue(core: &Core, hash: &str) -> Result<Option<Arc<Catalogue>>, StoreError> {
    if let Some(known) = core.catalogues.get(hash) {
        return Ok(Some(known));
    }
    let mut query = DocumentQuery::all(CONTENT);
    // `0` is the character after `/`, so this is every key that begins with `hash/`.
    (query.from, query.before) = (format!("{hash}/"), Some(format!("{hash}0")));
    let parts = core.aside(core.store.documents(query)).await?;
    if parts.is_empty() {
        return Ok(None);
    }
    let text: Vec<u8> = parts.into_iter().flat_map(|part| part.value).collect();
    match serde_json::from_slice::<Catalogue>(&text) {
        Ok(catalogue) => {
            let catalogue = Arc::new(catalogue);
            core.catalogues.put(hash.to_owned(), catalogue.clone());
            Ok(Some(catalogue))
        }
        Err(error) => {
            tracing::debug!(%error, hash, "cannot read the catalogue of another process");
            Ok(None)
        }
    }
}
