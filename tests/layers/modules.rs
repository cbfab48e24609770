//! The modules of a crate, read from its source, and which module each one uses.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Item, ItemMod, Meta, UseTree};

/// The text of every file, by its path.
pub(crate) type Sources = BTreeMap<PathBuf, String>;

/// All modules of one crate, by their paths without `crate`: `engine::slots`. The root is the empty path.
#[derive(Debug, Default)]
pub(crate) struct Modules {
    all: BTreeMap<String, Module>,
}

#[derive(Debug, Default)]
struct Module {
    file: PathBuf,
    /// The module of the file. It differs from this module if this one is inline.
    home: String,
    /// Names of the items that are defined here.
    items: BTreeSet<String>,
    /// Each imported name, and its path.
    imports: BTreeMap<String, Vec<String>>,
    globs: Vec<Vec<String>>,
    paths: Vec<(Vec<String>, usize)>,
}

/// One module uses another, in a line of its file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Import {
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) file: PathBuf,
    pub(crate) line: usize,
    pub(crate) path: String,
}

impl Modules {
    /// Reads the crate whose root is the file `root`, without what only tests compile.
    pub(crate) fn read(root: &Path, sources: &Sources) -> Self {
        let mut modules = Self::default();
        modules.read_file("", root, sources);
        modules
    }

    /// The files that were read.
    pub(crate) fn files(&self) -> BTreeSet<&Path> {
        self.all.values().map(|module| module.file.as_path()).collect()
    }

    fn read_file(&mut self, module: &str, path: &Path, sources: &Sources) {
        let text =
            sources.get(path).unwrap_or_else(|| panic!("{} is declared and not there", path.display()));
        let file = syn::parse_file(text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let mut reader =
            Reader { modules: self, sources, file: path, home: module, module: module.to_owned() };
        reader.open();
        file.items.iter().for_each(|item| reader.visit_item(item));
    }

    /// Every use of one module by another.
    pub(crate) fn imports(&self) -> BTreeSet<Import> {
        let mut imports = BTreeSet::new();
        for (name, module) in &self.all {
            for (path, line) in &module.paths {
                let Some(to) = self.used(name, path) else { continue };
                if to != module.home {
                    let (from, file, path) = (module.home.clone(), module.file.clone(), path.join("::"));
                    imports.insert(Import { from, to, file, line: *line, path });
                }
            }
        }
        imports
    }

    /// The module that defines what `path` names in the module `from`. A parent that only declares its children and
    /// exports their items defines nothing: naming it uses nothing.
    fn used(&self, from: &str, path: &[String]) -> Option<String> {
        let found = self.resolve(from, path, 0)?;
        let module = &self.all[&found.module];
        let is_parent =
            module.items.is_empty() && self.all.keys().any(|name| parent(name) == Some(&found.module));
        (found.is_item || !is_parent).then(|| module.home.clone())
    }

    fn resolve(&self, from: &str, path: &[String], depth: usize) -> Option<Found> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => self.within("", rest, depth),
            "self" => self.within(from, rest, depth),
            "super" => {
                let ups = path.iter().take_while(|name| *name == "super").count();
                let at = (0..ups).try_fold(from, |at, _| parent(at))?;
                self.within(at, &path[ups..], depth)
            }
            _ => self.named(from, path, depth),
        }
    }

    /// What `path` names, starting at the module `at`. A name that is not found there counts as made by a macro.
    fn within(&self, at: &str, path: &[String], depth: usize) -> Option<Found> {
        if path.is_empty() {
            return Some(Found { module: at.to_owned(), is_item: false });
        }
        self.named(at, path, depth).or_else(|| Some(Found { module: at.to_owned(), is_item: true }))
    }

    /// What `path` names in the scope of the module `at`. `None`: nothing of this crate.
    fn named(&self, at: &str, path: &[String], depth: usize) -> Option<Found> {
        let (first, rest) = path.split_first()?;
        let module = &self.all[at];
        let child = if at.is_empty() { first.clone() } else { format!("{at}::{first}") };
        if self.all.contains_key(&child) && (!rest.is_empty() || !module.items.contains(first)) {
            return self.within(&child, rest, depth);
        }
        if module.items.contains(first) {
            return Some(Found { module: at.to_owned(), is_item: true });
        }
        // Exports in a circle end somewhere else, or nowhere.
        if depth > 20 {
            return None;
        }
        if let Some(import) = module.imports.get(first) {
            let path: Vec<_> = import.iter().chain(rest).cloned().collect();
            return self.resolve(at, &path, depth + 1);
        }
        module.globs.iter().find_map(|glob| {
            let opened = self.resolve(at, glob, depth + 1).filter(|opened| !opened.is_item)?;
            self.named(&opened.module, path, depth + 1)
        })
    }
}

struct Found {
    module: String,
    is_item: bool,
}

fn parent(module: &str) -> Option<&str> {
    if module.is_empty() {
        return None;
    }
    Some(module.rsplit_once("::").map_or("", |(parent, _)| parent))
}

/// Reads the items of one file.
struct Reader<'a> {
    modules: &'a mut Modules,
    sources: &'a Sources,
    file: &'a Path,
    home: &'a str,
    /// Differs from `home` in an inline module.
    module: String,
}

impl Reader<'_> {
    fn open(&mut self) {
        let (file, home) = (self.file.to_owned(), self.home.to_owned());
        self.modules.all.insert(self.module.clone(), Module { file, home, ..Module::default() });
    }

    fn here(&mut self) -> &mut Module {
        self.modules.all.get_mut(&self.module).expect("`open` has made it")
    }

    fn child(&mut self, child: &ItemMod) {
        let name = child.ident.to_string();
        let module = if self.module.is_empty() { name.clone() } else { format!("{}::{name}", self.module) };
        if let Some((_, items)) = &child.content {
            let parent = std::mem::replace(&mut self.module, module);
            self.open();
            items.iter().for_each(|item| self.visit_item(item));
            self.module = parent;
            return;
        }
        let path = self.file_of(child, &name);
        self.modules.read_file(&module, &path, self.sources);
    }

    fn file_of(&self, child: &ItemMod, name: &str) -> PathBuf {
        let beside = self.file.parent().unwrap_or(Path::new(""));
        if let Some(path) = child.attrs.iter().find_map(|attribute| literal(attribute, "path")) {
            return normal(&beside.join(path));
        }
        let stem = self.file.file_stem().unwrap_or_default();
        let is_door = self.home.is_empty() || stem == "mod";
        let dir = if is_door { beside.to_owned() } else { beside.join(stem) };
        let file = dir.join(format!("{name}.rs"));
        if self.sources.contains_key(&file) { file } else { dir.join(name).join("mod.rs") }
    }

    fn import(&mut self, tree: &UseTree, before: &[String]) {
        let line = tree.span().start().line;
        let path = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        let (name, path) = match tree {
            UseTree::Path(next) => return self.import(&next.tree, &path(&next.ident)),
            UseTree::Group(group) => return group.items.iter().for_each(|tree| self.import(tree, before)),
            UseTree::Glob(_) => {
                self.here().globs.push(before.to_vec());
                self.here().paths.push((before.to_vec(), line));
                return;
            }
            UseTree::Name(name) if name.ident == "self" => {
                (before.last().cloned().unwrap_or_default(), before.to_vec())
            }
            UseTree::Name(name) => (name.ident.to_string(), path(&name.ident)),
            UseTree::Rename(name) if name.ident == "self" => (name.rename.to_string(), before.to_vec()),
            UseTree::Rename(name) => (name.rename.to_string(), path(&name.ident)),
        };
        self.here().paths.push((path.clone(), line));
        self.here().imports.insert(name, path);
    }

    fn path(&mut self, segments: Vec<String>, line: usize) {
        if !segments.is_empty() {
            self.here().paths.push((segments, line));
        }
    }

    /// Paths in what a macro is given, and in strings of attributes such as `serde(with = "..")`.
    fn tokens(&mut self, tokens: TokenStream) {
        let (mut path, mut line, mut colons) = (Vec::new(), 0, 0);
        for token in tokens {
            match token {
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.path(std::mem::take(&mut path), line);
                        line = ident.span().start().line;
                    }
                    path.push(ident.to_string());
                    colons = 0;
                    continue;
                }
                TokenTree::Punct(punct) if punct.as_char() == ':' => {
                    colons += 1;
                    continue;
                }
                TokenTree::Group(group) => self.tokens(group.stream()),
                TokenTree::Literal(literal) => {
                    if let Ok(text) = syn::parse_str::<syn::LitStr>(&literal.to_string())
                        && let Ok(path) = text.parse::<syn::Path>()
                    {
                        self.path(segments(&path), literal.span().start().line);
                    }
                }
                TokenTree::Punct(_) => {}
            }
            self.path(std::mem::take(&mut path), line);
            colons = 0;
        }
        self.path(path, line);
    }
}

/// A path without `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for part in path.components() {
        if part.as_os_str() == ".." {
            normal.pop();
        } else {
            normal.push(part);
        }
    }
    normal
}

fn segments(path: &syn::Path) -> Vec<String> {
    match path.leading_colon {
        Some(_) => Vec::new(),
        None => path.segments.iter().map(|segment| segment.ident.to_string()).collect(),
    }
}

/// The text of an attribute `name = "text"`.
fn literal(attribute: &Attribute, name: &str) -> Option<String> {
    let Meta::NameValue(pair) = &attribute.meta else { return None };
    let syn::Expr::Lit(syn::ExprLit { lit: syn::Lit::Str(text), .. }) = &pair.value else { return None };
    attribute.path().is_ident(name).then(|| text.value())
}

fn is_test_only(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let Meta::List(list) = &attribute.meta else { return false };
        let condition = list.tokens.to_string().replace(' ', "");
        list.path.is_ident("cfg") && (condition == "test" || condition.starts_with("all(test,"))
    })
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let (attributes, name): (&[Attribute], _) = match item {
            Item::Const(item) => (&item.attrs, Some(&item.ident)),
            Item::Enum(item) => (&item.attrs, Some(&item.ident)),
            Item::Fn(item) => (&item.attrs, Some(&item.sig.ident)),
            Item::Impl(item) => (&item.attrs, None),
            Item::Macro(item) => (&item.attrs, item.ident.as_ref()),
            Item::Mod(item) => (&item.attrs, None),
            Item::Static(item) => (&item.attrs, Some(&item.ident)),
            Item::Struct(item) => (&item.attrs, Some(&item.ident)),
            Item::Trait(item) => (&item.attrs, Some(&item.ident)),
            Item::TraitAlias(item) => (&item.attrs, Some(&item.ident)),
            Item::Type(item) => (&item.attrs, Some(&item.ident)),
            Item::Union(item) => (&item.attrs, Some(&item.ident)),
            Item::Use(item) => (&item.attrs, None),
            _ => (&[], None),
        };
        if is_test_only(attributes) {
            return;
        }
        if let Some(name) = name {
            self.here().items.insert(name.to_string());
        }
        match item {
            Item::Mod(child) => self.child(child),
            Item::Use(item) if item.leading_colon.is_none() => self.import(&item.tree, &[]),
            Item::Use(_) => {}
            other => visit::visit_item(self, other),
        }
    }

    fn visit_impl_item(&mut self, item: &'ast syn::ImplItem) {
        let attributes: &[Attribute] = match item {
            syn::ImplItem::Fn(item) => &item.attrs,
            syn::ImplItem::Const(item) => &item.attrs,
            _ => &[],
        };
        if !is_test_only(attributes) {
            visit::visit_impl_item(self, item);
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        self.path(segments(path), path.span().start().line);
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast syn::Macro) {
        self.visit_path(&call.path);
        self.tokens(call.tokens.clone());
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let Meta::List(list) = &attribute.meta {
            self.tokens(list.tokens.clone());
        }
    }

    /// `pub(in path)` names a scope and uses nothing.
    fn visit_visibility(&mut self, _: &'ast syn::Visibility) {}
}
