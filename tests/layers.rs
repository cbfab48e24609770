//! The rooms of the crate: data flows one way, and a room uses only the rooms to its left. Also within a room, no two modules use
//! each other.

#![allow(clippy::unwrap_used, reason = "a test that finds an error fails")]

#[path = "layers/knots.rs"]
mod knots;
#[path = "layers/modules.rs"]
mod modules;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use knots::knots;
use modules::{Modules, Sources};

/// Each room, and the rooms that it may use.
const ROOMS: [(&str, &[&str]); 13] = [
    ("seam", &[]),
    ("model", &[]),
    ("task", &["seam", "model"]),
    ("store", &["seam", "model"]),
    ("observe", &["seam", "model"]),
    ("crypt", &["seam", "model"]),
    ("engine", &["seam", "model", "task", "store", "observe", "crypt"]),
    ("manager", &["seam", "model", "task", "store", "observe", "crypt", "engine"]),
    ("admin", &["seam", "model", "task", "store", "crypt", "engine", "manager"]),
    ("web", &["seam", "model", "task", "store", "engine", "manager", "admin"]),
    ("testing", &["seam", "model", "task", "store", "engine", "manager", "web"]),
    // The command is a separate program: it uses only the public items of the library.
    ("cli", &[]),
    ("bin", &["cli"]),
];

/// Stores that know nothing of each other.
const STORES: [&str; 4] = ["memory", "sqlite", "postgres", "redis"];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../taskflow/src")
}

fn files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// The code of a file: without comments, in which links may point anywhere.
fn code(text: &str) -> String {
    text.lines().map(|line| line.split("//").next().unwrap_or(line)).collect::<Vec<_>>().join("\n")
}

/// The first segments behind each `prefix`, also of a group: `crate::{model::A, store}` gives both.
fn segments(code: &str, prefix: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(prefix) {
        let preceded =
            code[..at].chars().next_back().is_some_and(|before| before.is_alphanumeric() || before == '_');
        if preceded {
            continue;
        }
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(group_heads(group)),
            None => found.push(head(rest)),
        }
    }
    found
}

fn head(text: &str) -> String {
    text.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
}

fn group_heads(group: &str) -> Vec<String> {
    let mut heads = vec![head(group)];
    let mut depth = 0;
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => heads.push(head(&group[at + 1..])),
            _ => {}
        }
    }
    heads.retain(|head| !head.is_empty());
    heads
}

/// The forbidden uses of a room, as `file uses room`.
fn trespasses(room: &str, allowed: &[&str], dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut paths = Vec::new();
    files(dir, &mut paths);
    for path in paths {
        for used in segments(&code(&fs::read_to_string(&path).unwrap()), "crate::") {
            let is_room = ROOMS.iter().any(|(room, _)| *room == used);
            if is_room && used != room && !allowed.contains(&used.as_str()) {
                found.push(format!("{} uses `crate::{used}`", path.display()));
            }
        }
    }
    found
}

#[test]
fn a_room_uses_only_rooms_to_its_left() {
    let found: Vec<_> = ROOMS
        .iter()
        .filter(|(room, _)| source().join(room).is_dir())
        .flat_map(|(room, allowed)| trespasses(room, allowed, &source().join(room)))
        .collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_command_uses_only_what_everybody_may() {
    let mut paths = Vec::new();
    for room in ["cli", "bin"] {
        files(&source().join(room), &mut paths);
    }
    assert!(!paths.is_empty());
    for path in paths {
        let used = segments(&code(&fs::read_to_string(&path).unwrap()), "taskflow::");
        assert!(!used.iter().any(|used| used == "__private"), "{} uses what only macros may", path.display());
    }
    let library = code(&fs::read_to_string(source().join("lib.rs")).unwrap());
    assert!(!library.contains("mod cli"), "what the command registers would be in every program");
}

#[test]
fn every_room_is_known_here() {
    for entry in fs::read_dir(source()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let door = ["lib", "attributes"].contains(&name.as_str());
        assert!(
            door || ROOMS.iter().any(|(room, _)| *room == name),
            "which rooms may `{name}` use? say it here"
        );
    }
}

#[test]
fn a_store_knows_nothing_of_another() {
    let mut found = Vec::new();
    for store in STORES {
        let dir = source().join("store").join(store);
        if !dir.is_dir() {
            continue;
        }
        let mut paths = Vec::new();
        files(&dir, &mut paths);
        for path in paths {
            let code = code(&fs::read_to_string(&path).unwrap());
            let mut used = segments(&code, "crate::store::");
            used.extend(segments(&code, "super::super::"));
            for other in STORES.into_iter().filter(|other| *other != store) {
                if used.iter().any(|used| used == other) {
                    found.push(format!("{} uses the store `{other}`", path.display()));
                }
            }
        }
    }
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn a_trespass_would_be_found() {
    let code =
        code("use crate::{model::{A, B}, engine};\n// crate::web\nlet x = crate::manager::Y; my_crate::web");
    assert_eq!(segments(&code, "crate::"), ["model", "engine", "manager"]);
    let found = trespasses("engine", &["model"], &source().join("engine"));
    assert!(found.iter().any(|line| line.contains("crate::store")), "the engine does use the store");
}

/// The two programs made of these sources.
const ROOTS: [&str; 2] = ["lib.rs", "bin/taskflow.rs"];

fn sources() -> Sources {
    let mut paths = Vec::new();
    files(&source(), &mut paths);
    let relative = |path: &Path| path.strip_prefix(source()).unwrap().to_owned();
    paths.iter().map(|path| (relative(path), fs::read_to_string(path).unwrap())).collect()
}

static PROGRAMS: LazyLock<Vec<Modules>> = LazyLock::new(|| {
    let sources = sources();
    ROOTS.iter().map(|root| Modules::read(Path::new(root), &sources)).collect()
});

#[test]
fn no_two_modules_use_each_other_at_any_depth() {
    let found: Vec<_> = PROGRAMS.iter().flat_map(|program| knots(&program.imports())).collect();
    let found: Vec<_> = found.iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "\n{}", found.join("\n"));
}

#[test]
fn every_file_is_read_but_those_of_tests() {
    let read: Vec<_> = PROGRAMS.iter().flat_map(Modules::files).collect();
    let is_test = |file: &Path| file.iter().any(|part| part == "tests" || part == "tests.rs");
    let unread: Vec<_> =
        sources().into_keys().filter(|file| !read.contains(&file.as_path()) && !is_test(file)).collect();
    assert!(unread.is_empty(), "{unread:?}");
}

/// The modules of each knot of a made-up crate.
fn knots_of(files: &[(&str, &str)]) -> Vec<Vec<String>> {
    let sources: Sources =
        files.iter().map(|(path, text)| (PathBuf::from(path), (*text).to_owned())).collect();
    let found = knots(&Modules::read(Path::new("lib.rs"), &sources).imports());
    found.into_iter().map(|knot| knot.modules.into_iter().collect()).collect()
}

const DOOR: (&str, &str) = ("lib.rs", "mod room;");

/// A parent that declares three modules and exports what they define.
const PARENT: (&str, &str) =
    ("room/mod.rs", "mod a; mod b; mod c; pub use a::A; pub use b::B; pub use c::C;");

#[test]
fn a_circle_would_be_found_however_it_is_imported() {
    let c = ("room/c.rs", "pub struct C(crate::room::a::A);");
    for (a, b) in [
        ("use super::b::B; pub struct A(B);", "use super::c::C; pub struct B(C);"),
        ("use super::B; pub struct A(B);", "use crate::room::{C, A as _}; pub struct B(C);"),
        ("use super::b; pub struct A(b::B);", "pub struct B(super::super::room::C);"),
        (
            "pub struct A; fn f() { println!(\"{}\", super::b::f()); }",
            "use super::*; pub struct B(C); pub fn f() {}",
        ),
        (
            "#[derive(D)] #[d(with = \"super::b\")] pub struct A;",
            "pub struct B; mod inner { use super::super::C; }",
        ),
    ] {
        let found = knots_of(&[DOOR, PARENT, ("room/a.rs", a), ("room/b.rs", b), c]);
        assert_eq!(found, [["room::a", "room::b", "room::c"]], "{a}\n{b}");
    }
}

#[test]
fn a_parent_that_defines_something_is_one_of_the_circle() {
    let found = knots_of(&[
        DOOR,
        ("room/mod.rs", "mod a; pub struct P(a::A);"),
        ("room/a.rs", "pub struct A(super::P);"),
    ]);
    assert_eq!(found, [["room", "room::a"]]);
}

#[test]
fn what_only_tests_use_and_what_a_parent_exports_ties_nothing() {
    let a = "use super::B; pub struct A(B); #[cfg(test)] mod tests { use super::super::C; }";
    let b = "pub(in super::super) struct B; #[cfg(test)] impl B { fn c(_: super::C) {} } // super::A";
    let found = knots_of(&[
        DOOR,
        PARENT,
        ("room/a.rs", a),
        ("room/b.rs", b),
        ("room/c.rs", "pub struct C(super::A);"),
    ]);
    assert_eq!(found, [[""; 0]; 0]);
}
