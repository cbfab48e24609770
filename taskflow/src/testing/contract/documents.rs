//! Documents: order, versions, expiry, and random histories compared with a map.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use crate::store::{Document, DocumentQuery, DocumentWrite, Retention, Store};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::fixture::Stores;
use super::lab::{LONG, Lab, Patience, only};

const KIND: &str = "notes";
const OTHER: &str = "others";

fn put(key: &str, value: &str) -> DocumentWrite {
    DocumentWrite::put(KIND, key, value.into())
}

fn delete(key: &str) -> DocumentWrite {
    DocumentWrite::delete(KIND, key)
}

fn between(from: &str, before: Option<&str>, descending: bool, limit: usize) -> DocumentQuery {
    let mut query = DocumentQuery::all(KIND);
    (query.from, query.before) = (from.to_owned(), before.map(str::to_owned));
    (query.descending, query.limit) = (descending, limit);
    query
}

impl Lab {
    async fn write_documents(&self, writes: Vec<DocumentWrite>) -> Vec<Option<u64>> {
        self.store.write_documents(writes).await.expect("documents are written")
    }

    async fn documents(&self, query: DocumentQuery) -> Vec<Document> {
        self.store.documents(query).await.expect("documents are read")
    }

    async fn keys(&self, query: DocumentQuery) -> Vec<String> {
        self.documents(query).await.into_iter().map(|document| document.key).collect()
    }

    async fn document(&self, key: &str) -> Option<Document> {
        let mut found = self.documents(DocumentQuery::one(KIND, key)).await;
        assert!(found.len() <= 1, "{found:?}");
        found.pop()
    }

    async fn prune_documents(&self, limit: usize) -> usize {
        self.store.prune(Retention::new(LONG), limit).await.expect("prune")
    }
}

pub(crate) async fn a_document_is_read_back_as_it_was_written(lab: Lab) {
    let bytes: Vec<u8> = (0..=255).cycle().take(5000).collect();
    let before = SystemTime::now() - Duration::from_secs(3600);
    let writes =
        vec![DocumentWrite::put(KIND, "bytes", bytes.clone()), DocumentWrite::put(KIND, "none", Vec::new())];
    assert_eq!(lab.write_documents(writes).await, [Some(1), Some(1)]);
    let read = lab.document("bytes").await.unwrap();
    assert_eq!((read.key.as_str(), read.version, &read.value), ("bytes", 1, &bytes));
    assert!(read.written_at > before, "{read:?}");
    assert!(lab.document("none").await.unwrap().value.is_empty());
    assert_eq!(lab.document("byte").await, None);
    assert_eq!(lab.write_documents(Vec::new()).await, []);
    assert_eq!(lab.documents(DocumentQuery::all("nothing")).await, []);
}

pub(crate) async fn documents_come_in_the_order_of_their_keys(lab: Lab) {
    // Keys are ordered by their bytes, not by an alphabet.
    let keys = [
        "",
        "\u{1}",
        " ",
        "A",
        "Z",
        "a",
        "a/",
        "a/1",
        "a/10",
        "a/2",
        "ab",
        "b",
        "é",
        "\u{ffff}",
        "\u{1f600}",
    ];
    let mut writes: Vec<_> = keys.iter().rev().map(|key| put(key, "")).collect();
    writes.push(DocumentWrite::put(OTHER, "a/3", Vec::new()));
    lab.write_documents(writes).await;
    assert_eq!(lab.keys(DocumentQuery::all(KIND)).await, keys);
    assert_eq!(lab.keys(DocumentQuery::all(OTHER)).await, ["a/3"]);
    let backwards: Vec<_> = keys.iter().rev().copied().collect();
    assert_eq!(lab.keys(between("", None, true, 1000)).await, backwards);

    // The start is inclusive, the end is not.
    assert_eq!(lab.keys(between("a/", Some("a0"), false, 1000)).await, ["a/", "a/1", "a/10", "a/2"]);
    assert_eq!(lab.keys(between("a/", Some("a/2"), true, 1000)).await, ["a/10", "a/1", "a/"]);
    assert_eq!(lab.keys(between("a/1", None, false, 2)).await, ["a/1", "a/10"]);
    assert_eq!(lab.keys(between("", Some("a/1"), true, 2)).await, ["a/", "a"]);
    assert_eq!(lab.keys(between("a/1\0", Some("ab\0"), false, 1000)).await, ["a/10", "a/2", "ab"]);
    for (from, before, limit) in [("b", "a", 10), ("a", "a", 10), ("a", "b", 0)] {
        for descending in [false, true] {
            assert!(lab.keys(between(from, Some(before), descending, limit)).await.is_empty());
        }
    }
}

pub(crate) async fn an_answer_has_a_limit_and_goes_on_from_its_last_key(lab: Lab) {
    let keys: Vec<String> = (0..2500).map(|n| format!("{n:05}")).collect();
    for some in keys.chunks(Document::MAX_BATCH) {
        lab.write_documents(some.iter().map(|key| put(key, "")).collect()).await;
    }
    let mut read: Vec<String> = Vec::new();
    loop {
        let from = read.last().map(|last| format!("{last}\0")).unwrap_or_default();
        let page = lab.keys(between(&from, None, false, usize::MAX)).await;
        assert!(page.len() <= Document::MAX_BATCH);
        if page.is_empty() {
            break;
        }
        read.extend(page);
    }
    assert_eq!(read, keys);
}

pub(crate) async fn a_write_that_expects_another_version_writes_nothing(lab: Lab) {
    assert_eq!(lab.write_documents(vec![put("a", "1").expected(1)]).await, [None], "there is none");
    assert_eq!(lab.document("a").await, None);
    assert_eq!(lab.write_documents(vec![put("a", "1").expected(0)]).await, [Some(1)]);
    assert_eq!(lab.write_documents(vec![put("a", "x").expected(0)]).await, [None]);
    assert_eq!(lab.write_documents(vec![put("a", "2").expected(1)]).await, [Some(2)]);
    assert_eq!(lab.write_documents(vec![put("a", "3")]).await, [Some(3)]);
    for stale in [0, 1, 2, 4, u64::MAX] {
        assert_eq!(lab.write_documents(vec![put("a", "x").expected(stale)]).await, [None], "{stale}");
        assert_eq!(lab.write_documents(vec![delete("a").expected(stale)]).await, [None], "{stale}");
    }
    let read = lab.document("a").await.unwrap();
    assert_eq!((read.version, &*read.value), (3, &b"3"[..]));

    // The other writes of the same call are applied.
    let writes = vec![put("b", "1"), put("a", "x").expected(7), put("c", "1")];
    assert_eq!(lab.write_documents(writes).await, [Some(1), None, Some(1)]);
    assert_eq!(lab.keys(DocumentQuery::all(KIND)).await, ["a", "b", "c"]);

    assert_eq!(lab.write_documents(vec![delete("a").expected(3), delete("b")]).await, [Some(3), Some(1)]);
    assert_eq!(lab.write_documents(vec![delete("a"), delete("z").expected(0)]).await, [Some(0), Some(0)]);
    assert_eq!(lab.write_documents(vec![delete("a").expected(3)]).await, [None]);
    assert_eq!(lab.write_documents(vec![put("a", "again")]).await, [Some(1)]);
}

pub(crate) async fn each_write_of_a_call_sees_the_one_before_it(lab: Lab) {
    let writes = vec![
        put("a", "1"),
        put("a", "2").expected(1),
        put("a", "x").expected(1),
        delete("a"),
        delete("a"),
        put("a", "3").expected(0),
        DocumentWrite::put(OTHER, "a", Vec::new()).expected(0),
        put("a", "gone").expires_in(Duration::ZERO),
        put("a", "4"),
    ];
    let answers = [Some(1), Some(2), None, Some(2), Some(0), Some(1), Some(1), Some(2), Some(1)];
    assert_eq!(lab.write_documents(writes).await, answers);
    assert_eq!(lab.document("a").await.unwrap().value, b"4");
}

pub(crate) async fn an_expired_document_is_none(lab: Lab) {
    let length = Duration::from_millis(300);
    let put_for = |key, length| put(key, "1").expires_in(length);
    let writes = vec![put_for("a", length), put_for("b", length), put_for("c", LONG), put("d", "1")];
    lab.write_documents(writes).await;
    // Each write sets the expiry anew: now `b` never expires.
    lab.write_documents(vec![put("b", "2")]).await;
    let patience = Patience::new("a document to expire");
    while lab.document("a").await.is_some() {
        patience.wait().await;
    }
    assert_eq!(lab.keys(DocumentQuery::all(KIND)).await, ["b", "c", "d"]);
    assert_eq!(lab.keys(between("", None, true, 10)).await, ["d", "c", "b"]);
    assert_eq!(lab.write_documents(vec![delete("a").expected(1), delete("a")]).await, [None, Some(0)]);
    assert_eq!(lab.write_documents(vec![put_for("a", Duration::ZERO)]).await, [Some(1)]);
    assert_eq!(lab.document("a").await, None);
    assert_eq!(lab.write_documents(vec![put("a", "2").expected(1)]).await, [None]);
    assert_eq!(lab.write_documents(vec![put("a", "2").expected(0)]).await, [Some(1)]);
    lab.write_documents(vec![put_for("e", Duration::MAX)]).await;
    assert_eq!(lab.prune_documents(100).await, 0);
    assert_eq!(lab.keys(DocumentQuery::all(KIND)).await, ["a", "b", "c", "d", "e"]);
}

pub(crate) async fn expired_documents_are_pruned_in_bounded_batches(lab: Lab) {
    let expired = |n: usize| put(&format!("{n}"), "x").expires_in(Duration::ZERO);
    lab.write_documents((0..25).map(expired).collect()).await;
    lab.write_documents(vec![put("kept", ""), put("later", "").expires_in(LONG)]).await;
    // The last of them is written again, so it has not expired.
    lab.write_documents(vec![put("24", "")]).await;
    let mut batches = Vec::new();
    for _ in 0..4 {
        batches.push(lab.prune_documents(10).await);
    }
    assert_eq!(batches, [10, 10, 4, 0]);
    assert_eq!(lab.keys(DocumentQuery::all(KIND)).await, ["24", "kept", "later"]);
    assert_eq!(lab.write_documents(vec![delete("24"), delete("kept"), delete("later")]).await, [Some(1); 3]);
}

pub(crate) async fn of_many_that_expect_one_version_one_writes(lab: Lab) {
    const WRITERS: u64 = 16;
    let mut expected = 0;
    for round in 0..8 {
        let mut writing = tokio::task::JoinSet::new();
        for writer in 0..WRITERS {
            let store = lab.store.clone();
            // Each call also writes a document of its own, before or after the shared one.
            let own = put(&format!("own {writer}"), "");
            let shared = put("shared", &writer.to_string()).expected(expected);
            let writes = if writer % 2 == 0 { vec![own, shared] } else { vec![shared, own] };
            writing.spawn(async move {
                let answers = store.write_documents(writes).await.expect("written");
                (writer, answers[usize::from(writer % 2 == 0)], answers[usize::from(writer % 2 == 1)])
            });
        }
        let answers = writing.join_all().await;
        let won: Vec<_> = answers.iter().filter(|(_, shared, _)| shared.is_some()).collect();
        assert_eq!(won.len(), 1, "{answers:?}");
        expected += 1;
        let read = lab.document("shared").await.unwrap();
        assert_eq!((read.version, read.value), (expected, won[0].0.to_string().into_bytes()));
        assert!(answers.iter().all(|(_, _, own)| *own == Some(round + 1)), "{answers:?}");
    }
}

pub(crate) async fn versions_of_writes_at_once_are_each_given_once(lab: Lab) {
    let mut writing = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let store = lab.store.clone();
        writing.spawn(async move { only(store.write_documents(vec![put("a", "")]).await.expect("written")) });
    }
    let mut versions: Vec<_> = writing.join_all().await.into_iter().flatten().collect();
    versions.sort_unstable();
    assert_eq!(versions, (1..=32).collect::<Vec<_>>());
}

pub(crate) async fn a_write_beyond_a_limit_is_refused_whole(lab: Lab) {
    let too_much = [
        put(&"k".repeat(Document::MAX_KEY + 1), ""),
        put("a\0b", ""),
        DocumentWrite::put(KIND, "big", vec![0; Document::MAX_VALUE + 1]),
        DocumentWrite::put("a kind with more than its 32 bytes", "a", Vec::new()),
        DocumentWrite::put("", "a", Vec::new()),
        DocumentWrite::put("a\0b", "a", Vec::new()),
    ];
    for write in too_much {
        let writes = vec![put("first", ""), write];
        let error = lab.store.write_documents(writes).await.expect_err("beyond a limit");
        assert!(!error.is_transient(), "{error}");
    }
    let many = (0..=Document::MAX_BATCH).map(|n| put(&n.to_string(), "")).collect();
    let error = lab.store.write_documents(many).await.expect_err("too many").to_string();
    assert!(error.contains("1001") && error.contains("1000"), "{error}");
    let large = |n: usize| DocumentWrite::put(KIND, n.to_string(), vec![b'x'; Document::MAX_VALUE]);
    let most = Document::MAX_WRITE / Document::MAX_VALUE;
    lab.store.write_documents((0..=most).map(large).collect()).await.expect_err("too many bytes");
    assert!(lab.store.documents(DocumentQuery::all("")).await.is_err());
    assert!(lab.store.documents(DocumentQuery::all("a\0b")).await.is_err());
    assert_eq!(lab.documents(DocumentQuery::all(KIND)).await, []);

    // The largest allowed write is stored, and one answer returns all of it.
    lab.write_documents((0..most).map(large).collect()).await;
    let longest = "é".repeat(Document::MAX_KEY / 2);
    lab.write_documents(vec![put(&longest, "")]).await;
    for descending in [false, true] {
        let read = lab.documents(between("", None, descending, 1000)).await;
        assert_eq!(read.len(), most + 1);
        assert_eq!(read.iter().map(|it| it.value.len()).sum::<usize>(), Document::MAX_WRITE);
    }
    assert!(lab.document(&longest).await.is_some());
}

// Random histories.

#[derive(Clone, Debug)]
enum Op {
    Write(Vec<Spec>),
    Read { from: &'static str, before: Option<&'static str>, descending: bool, limit: usize },
    Prune(usize),
}

#[derive(Clone, Debug)]
struct Spec {
    key: &'static str,
    deletes: bool,
    /// 0: never, 1: after a long time, 2: at once.
    expires: u8,
    expected: Option<u64>,
}

const KEYS: [&str; 7] = ["", "a", "a/", "a/1", "ab", "b", "é"];
const BOUNDS: [&str; 9] = ["", "a", "a\0", "a/", "a/1", "ab", "b\0", "é", "zz"];

fn op() -> impl Strategy<Value = Op> {
    let spec = (
        prop::sample::select(&KEYS[..]),
        prop::bool::weighted(0.2),
        prop::sample::select(&[0, 0, 0, 1, 2][..]),
        prop::option::of(0..4_u64),
    );
    let spec = spec.prop_map(|(key, deletes, expires, expected)| Spec { key, deletes, expires, expected });
    let bound = || prop::sample::select(&BOUNDS[..]);
    let read = (bound(), prop::option::of(bound()), any::<bool>(), 0..9_usize);
    let read =
        read.prop_map(|(from, before, descending, limit)| Op::Read { from, before, descending, limit });
    prop_oneof![
        4 => prop::collection::vec(spec, 1..6).prop_map(Op::Write),
        3 => read,
        1 => (1..4_usize).prop_map(Op::Prune),
    ]
}

/// What a store should have: version and value of each document, and the keys of expired documents that are not pruned.
#[derive(Default)]
struct Map {
    there: BTreeMap<&'static str, (u64, Vec<u8>)>,
    expired: Vec<&'static str>,
    writes: u64,
}

impl Map {
    fn write(&mut self, spec: &Spec) -> (DocumentWrite, Option<u64>) {
        self.writes += 1;
        let value = self.writes.to_string().into_bytes();
        let mut write = match spec.deletes {
            true => DocumentWrite::delete(KIND, spec.key),
            false => DocumentWrite::put(KIND, spec.key, value.clone()),
        };
        let length = [None, Some(LONG), Some(Duration::ZERO)][usize::from(spec.expires)];
        (write.expires_in, write.expected) = (length, spec.expected);
        let version = self.there.get(spec.key).map_or(0, |(version, _)| *version);
        if spec.expected.is_some_and(|expected| expected != version) {
            return (write, None);
        }
        self.there.remove(spec.key);
        self.expired.retain(|key| *key != spec.key);
        if spec.deletes {
            return (write, Some(version));
        }
        match spec.expires {
            2 => self.expired.push(spec.key),
            _ => drop(self.there.insert(spec.key, (version + 1, value))),
        }
        (write, Some(version + 1))
    }

    fn read(&self, query: &DocumentQuery) -> Vec<(String, u64, Vec<u8>)> {
        let is_in = |key: &str| {
            key >= query.from.as_str() && query.before.as_deref().is_none_or(|before| key < before)
        };
        let found = self.there.iter().filter(|(key, _)| is_in(key));
        let mut found: Vec<_> =
            found.map(|(key, (version, value))| ((*key).to_owned(), *version, value.clone())).collect();
        if query.descending {
            found.reverse();
        }
        found.truncate(query.limit);
        found
    }
}

async fn compare(store: &dyn Store, ops: &[Op]) -> Result<(), TestCaseError> {
    let mut map = Map::default();
    for op in ops {
        match op {
            Op::Write(specs) => {
                let (writes, expected): (Vec<_>, Vec<_>) = specs.iter().map(|spec| map.write(spec)).unzip();
                prop_assert_eq!(store.write_documents(writes).await.expect("written"), expected);
            }
            Op::Read { from, before, descending, limit } => {
                let query = between(from, *before, *descending, *limit);
                let read = store.documents(query.clone()).await.expect("read").into_iter();
                let read: Vec<_> = read.map(|it| (it.key, it.version, it.value)).collect();
                prop_assert_eq!(read, map.read(&query));
            }
            Op::Prune(limit) => {
                let pruned = store.prune(Retention::new(LONG), *limit).await.expect("pruned");
                prop_assert_eq!(pruned, map.expired.len().min(*limit));
                if pruned < *limit {
                    map.expired.clear();
                } else {
                    // Which ones are gone is the store's choice: prune the rest, too.
                    let rest = store.prune(Retention::new(LONG), 100).await.expect("pruned");
                    prop_assert_eq!(rest, map.expired.len() - pruned);
                    map.expired.clear();
                }
            }
        }
    }
    Ok(())
}

/// Runs random histories on one store, and deletes its documents before each.
pub(crate) fn any_history_of_documents_goes_as_a_map_says(stores: &Stores) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let Some(fixture) = runtime.block_on(stores.open()) else { return };
    let lab = runtime.block_on(Lab::new(fixture));
    let mut config = Config { failure_persistence: None, max_shrink_time: 30_000, ..Config::default() };
    if std::env::var_os("PROPTEST_CASES").is_none() {
        config.cases = stores.histories;
    }
    let outcome = TestRunner::new(config).run(&prop::collection::vec(op(), 1..30), |ops| {
        runtime.block_on(async {
            lab.write_documents(KEYS.iter().map(|key| delete(key)).collect()).await;
            compare(&*lab.store, &ops).await
        })
    });
    if let Err(difference) = outcome {
        panic!("{difference}");
    }
}
