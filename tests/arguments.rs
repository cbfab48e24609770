//! Arguments come back as they were given, whatever they are, and also after a restart.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

mod support;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use support::{Notes, Place, ends, record, soon};
use taskflow::{AddTask, AttemptOutcome, NewTask, State, TaskManager, TaskStatus};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
enum External {
    Unit,
    Newtype(u8),
    Tuple(i64, String),
    Struct { a: Option<u8>, b: Vec<bool> },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type")]
enum Internal {
    Unit,
    Struct { a: i32 },
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "t", content = "c")]
enum Adjacent {
    Unit,
    Newtype(String),
    Tuple(u8, u8),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Untagged {
    Number(i64),
    Text(String),
    List(Vec<Untagged>),
}

#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
struct Marker;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Deep {
    name: String,
    inner: Option<Box<Deep>>,
    #[serde(default)]
    map: BTreeMap<u16, Vec<Option<char>>>,
    marker: Marker,
}

type Enums = (Vec<External>, Vec<Internal>, Vec<Adjacent>, Vec<Untagged>);
type Maps = (BTreeMap<String, Vec<u8>>, HashMap<i32, Option<String>>, BTreeMap<char, BTreeMap<bool, ()>>);
type Numbers = (i128, i128, u128, u64, i64, Vec<f64>, Vec<f32>);
type Pointers = (Box<str>, Arc<str>, Cow<'static, str>, Box<[u8]>, Arc<Vec<u32>>);

fn enums() -> Enums {
    let external = vec![
        External::Unit,
        External::Newtype(255),
        External::Tuple(i64::MIN, String::new()),
        External::Struct { a: None, b: vec![true, false] },
    ];
    let untagged = vec![Untagged::Number(-1), Untagged::Text("1".to_owned()), Untagged::List(vec![])];
    let adjacent = vec![Adjacent::Unit, Adjacent::Newtype("c".to_owned()), Adjacent::Tuple(0, 1)];
    (external, vec![Internal::Unit, Internal::Struct { a: -5 }], adjacent, untagged)
}

fn maps() -> Maps {
    (
        BTreeMap::from([(String::new(), vec![]), ("\"quoted\\\n\"".to_owned(), vec![0, 255])]),
        HashMap::from([(i32::MIN, None), (0, Some("null".to_owned()))]),
        BTreeMap::from([('\0', BTreeMap::from([(true, ())])), ('🦀', BTreeMap::new())]),
    )
}

fn numbers() -> Numbers {
    let floats = vec![
        f64::MIN_POSITIVE,
        f64::from_bits(1),
        f64::from_bits(0x000F_FFFF_FFFF_FFFF),
        f64::MAX,
        f64::MIN,
        f64::EPSILON,
        -0.0,
        0.1 + 0.2,
        1e23,
        9_007_199_254_740_993.0,
        2.225_073_858_507_201e-308,
    ];
    let small = vec![f32::from_bits(1), f32::MAX, f32::MIN_POSITIVE, -0.0, 0.1, 16_777_217.0];
    (i128::MIN, i128::MAX, u128::MAX, u64::MAX, i64::MIN, floats, small)
}

fn texts() -> Vec<String> {
    let every_control: String = (0..=0x1f_u8).map(char::from).collect();
    let rare = "\u{7f}\u{2028}\u{feff}\u{ffff}\u{10ffff}é\u{301}👩‍👩‍👧";
    vec![String::new(), "NUL\0inside\0".to_owned(), every_control, rare.to_owned(), "{\"a\":1}".to_owned()]
}

fn deep() -> Deep {
    let leaf = Deep {
        name: "leaf".to_owned(),
        inner: None,
        map: BTreeMap::from([(7, vec![None, Some('x')])]),
        marker: Marker,
    };
    (0..50).fold(leaf, |inner, depth| Deep {
        name: depth.to_string(),
        inner: Some(Box::new(inner)),
        map: BTreeMap::new(),
        marker: Marker,
    })
}

fn pointers() -> Pointers {
    let bytes: Box<[u8]> = (0..=255).collect();
    ("boxed".into(), "shared".into(), Cow::Borrowed("cow"), bytes, Arc::new(vec![u32::MAX]))
}

#[derive(Clone, Debug, Default)]
struct Verdicts(Notes<Result<(), String>>);

impl Verdicts {
    fn equal<T: PartialEq + Debug>(&self, actual: &T, expected: &T) {
        self.0.write(if actual == expected {
            Ok(())
        } else {
            Err(format!("{actual:?} is not {expected:?}"))
        });
    }
}

#[taskflow::task]
async fn take_enums(State(verdicts): State<Verdicts>, value: Enums) {
    verdicts.equal(&value, &enums());
}

#[taskflow::task]
fn take_maps(State(verdicts): State<Verdicts>, value: Maps) {
    verdicts.equal(&value, &maps());
}

#[taskflow::task]
async fn take_numbers(State(verdicts): State<Verdicts>, value: Numbers) {
    let expected = numbers();
    verdicts.equal(&value, &expected);
    let bits = |floats: &[f64]| floats.iter().map(|float| float.to_bits()).collect::<Vec<_>>();
    verdicts.equal(&bits(&value.5), &bits(&expected.5));
    let bits = |floats: &[f32]| floats.iter().map(|float| float.to_bits()).collect::<Vec<_>>();
    verdicts.equal(&bits(&value.6), &bits(&expected.6));
}

#[taskflow::task]
async fn take_rest(
    State(verdicts): State<Verdicts>,
    some: Option<Option<Vec<Option<u8>>>>,
    none: Option<String>,
    unit: (),
    marker: Marker,
    deep_one: Deep,
    text: Vec<String>,
    pointer: Pointers,
    raw_bytes: Vec<u8>,
    array: [(u8, char); 2],
    pair: (bool, Option<()>),
) {
    verdicts.equal(&some, &Some(Some(vec![None, Some(0)])));
    verdicts.equal(&none, &None);
    verdicts.equal(&(unit, marker), &((), Marker));
    verdicts.equal(&deep_one, &deep());
    verdicts.equal(&text, &texts());
    verdicts.equal(&pointer, &pointers());
    verdicts.equal(&raw_bytes, &(0..=255).collect());
    verdicts.equal(&array, &[(0, 'a'), (255, '\u{10ffff}')]);
    verdicts.equal(&pair, &(true, None));
}

fn adds(tasks: &TaskManager) -> Vec<AddTask<()>> {
    let rest = (
        Some(Some(vec![None, Some(0)])),
        None,
        (),
        Marker,
        deep(),
        texts(),
        pointers(),
        (0..=255).collect(),
        [(0, 'a'), (255, '\u{10ffff}')],
        (true, None),
    );
    vec![
        tasks.add_task(take_enums, (enums(),)),
        tasks.add_task(take_maps, (maps(),)),
        tasks.add_task(take_numbers, (numbers(),)),
        tasks.add_task(take_rest, rest),
    ]
}

fn all_equal(verdicts: &Verdicts) {
    let verdicts = verdicts.0.read();
    assert_eq!(verdicts.len(), 1 + 1 + 3 + 9);
    for outcome in verdicts {
        outcome.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_serde_can_write_comes_back_equal() {
    for place in Place::each() {
        let verdicts = Verdicts::default();
        let tasks = place.builder().state(verdicts.clone()).start().await.unwrap();
        for add in adds(&tasks) {
            soon(add.await.unwrap().wait()).await.unwrap();
        }
        all_equal(&verdicts);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_comes_back_equal_in_the_next_process_too() {
    for place in Place::each() {
        let adding = place.builder().connect().await.unwrap();
        let mut ids = Vec::new();
        for add in adds(&adding) {
            ids.push(add.await.unwrap().id());
        }
        adding.shutdown(Duration::ZERO).await.unwrap();
        let verdicts = Verdicts::default();
        let tasks = place.builder().state(verdicts.clone()).start().await.unwrap();
        for id in ids {
            assert_eq!(ends(&tasks, id).await.status, TaskStatus::Success);
        }
        all_equal(&verdicts);
    }
}

#[taskflow::task]
async fn greet(name: String, title: Option<String>, #[arg(default)] times: u8) -> Result<String, String> {
    Ok(format!("{name} {title:?} {times}"))
}

#[taskflow::task(retries = 5)]
async fn need(unit: (), any: serde_json::Value) {
    let _ = (unit, any);
}

/// What another version of the program stored under that name.
fn stored_before(name: &'static str, args: &str) -> NewTask {
    NewTask::new(name, Ok(Arc::from(args)))
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_evolve_by_unknown_keys_options_and_defaults() {
    for place in Place::each() {
        let tasks = place.builder().state(Verdicts::default()).start().await.unwrap();
        let cases = [
            (r#"{"name":"Ada","dropped":[1,{"x":2}]}"#, r#""Ada None 0""#),
            (r#"{"times":3,"title":null,"name":"Ada"}"#, r#""Ada None 3""#),
            (r#" { "title" : "Dr" , "name" : "A\u0064a" } "#, r#""Ada Some(\"Dr\") 0""#),
        ];
        for (args, expected) in cases {
            let handles = tasks.add_all([stored_before("greet", args)]).await.unwrap();
            let task = ends(&tasks, handles[0].id()).await;
            assert_eq!(task.result.as_ref().map(|json| json.get()), Some(expected), "{task:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn arguments_that_do_not_decode_fail_at_once_and_are_kept() {
    for place in Place::each() {
        let tasks = place.builder().state(Verdicts::default()).start().await.unwrap();
        let cases = [
            ("greet", r#"{"name":7}"#, "`name`"),
            ("greet", r#"{"name":"a","times":256}"#, "`times`"),
            ("greet", r#"{}"#, "`name`"),
            ("need", r#"{"any":null}"#, "`unit`"),
            ("need", r#"{"unit":null}"#, "`any`"),
        ];
        for (name, args, expected) in cases {
            let handles = tasks.add_all([stored_before(name, args)]).await.unwrap();
            let task = ends(&tasks, handles[0].id()).await;
            assert_eq!((task.status, task.args.get()), (TaskStatus::Failed, args));
            let outcomes: Vec<_> = task.attempts.iter().map(|attempt| attempt.outcome).collect();
            assert_eq!(outcomes, [AttemptOutcome::Failed], "no attempt would go better");
            let error = task.error.unwrap();
            assert!(error.contains(expected), "{args}: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_task_nobody_here_knows_waits_for_somebody_who_does() {
    for place in Place::each() {
        let tasks = place.builder().state(Verdicts::default()).start().await.unwrap();
        let handles = tasks.add_all([stored_before("from_the_future", "{}")]).await.unwrap();
        soon(tasks.add(greet("Ada".to_owned(), None, 1)).await.unwrap().wait()).await.unwrap();
        let task = record(&tasks, handles[0].id()).await;
        assert_eq!((task.status, task.attempt), (TaskStatus::Pending, 0));
    }
}
