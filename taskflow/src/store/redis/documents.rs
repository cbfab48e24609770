//! The documents: small values that the store keeps beside the tasks, by kind and key.

use super::executor::Shared;
use super::packed_row::exact;
use super::script;
use crate::model::{StoreError, time};
use crate::store::document::is_version;
use crate::store::{Document, DocumentQuery, DocumentWrite};

/// The bytes before the value: version, time of the write, and expiry, as in `constants.lua`.
const HEAD: usize = 24;

impl Shared {
    pub(super) async fn write_documents(
        &self,
        writes: &[DocumentWrite],
    ) -> Result<Vec<Option<u64>>, StoreError> {
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        let mut call = self.silent(&script::WRITE_DOCUMENTS);
        for DocumentWrite { kind, key, value, expires_in, expected } in writes {
            call.arg(*kind).arg(key);
            call.arg(expected.map(|version| version.to_string()).unwrap_or_default());
            let length = expires_in.map(|length| exact(time::micros(length)).to_string());
            call.arg(length.unwrap_or_default());
            call.arg(u8::from(value.is_some())).arg(value.as_deref().unwrap_or_default());
        }
        let mut answer = self.ask(&call).await?.list()?;
        let mut versions = Vec::with_capacity(writes.len());
        while !answer.is_empty() {
            versions.push(u64::try_from(answer.number()?).ok());
        }
        match versions.len() == writes.len() {
            true => Ok(versions),
            false => Err(self.unexpected()),
        }
    }

    /// Reads documents in portions, because a script stops all other calls while it runs.
    pub(super) async fn documents(&self, query: &DocumentQuery) -> Result<Vec<Document>, StoreError> {
        let limit = query.limit.min(Document::MAX_BATCH);
        let bound = |sign: u8, key: &[u8]| [&[sign], key].concat();
        let mut least = bound(b'[', query.from.as_bytes());
        let mut greatest =
            query.before.as_ref().map_or_else(|| vec![b'+'], |before| bound(b'(', before.as_bytes()));
        let mut documents = Vec::new();
        while documents.len() < limit {
            let mut call = self.silent(&script::DOCUMENTS);
            call.arg(query.kind).arg(&least[..]).arg(&greatest[..]).arg(u8::from(query.descending));
            call.arg(limit - documents.len());
            let mut answer = self.ask(&call).await?.list()?;
            let mut last = answer.list()?;
            while !answer.is_empty() {
                let (key, packed) = (answer.bytes()?, answer.bytes()?);
                documents.extend(unpack(key, packed));
            }
            if last.is_empty() {
                break;
            }
            let end = if query.descending { &mut greatest } else { &mut least };
            *end = bound(b'(', &last.bytes()?);
        }
        Ok(documents)
    }

    /// Deletes up to `limit` documents that have expired. Answers how many.
    pub(super) async fn prune_documents(&self, limit: usize) -> Result<usize, StoreError> {
        let mut pruned = 0;
        while pruned < limit {
            let portion = (limit - pruned).min(super::store::PRUNED_AT_ONCE);
            let mut call = self.silent(&script::PRUNE_DOCUMENTS);
            call.arg(portion);
            let deleted = usize::try_from(self.ask(&call).await?.number()?).unwrap_or(0);
            pruned += deleted;
            if deleted < portion {
                break;
            }
        }
        Ok(pruned)
    }
}

/// The document of that key; `None` if another program has damaged it.
fn unpack(key: Vec<u8>, mut packed: Vec<u8>) -> Option<Document> {
    let number = |at: usize| Some(i64::from_le_bytes(packed.get(at..at + 8)?.try_into().ok()?));
    let (version, written_at) = (number(0)?, number(8)?);
    let value = packed.split_off(HEAD.min(packed.len()));
    let key = String::from_utf8(key).ok()?;
    is_version(version)
        .then(|| Document::new(key, version.unsigned_abs(), time::from_micros(written_at), value))
}
