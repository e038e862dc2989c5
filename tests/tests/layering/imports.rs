//! Which source file of a crate takes names from which, and whether that goes in a circle.
//!
//! Read from the sources with `syn`: `use` items and paths that begin in the crate (`crate::`, `self::`, `super::`, a
//! module's name). A name that a file only passes on (`pub use`) counts for the file that defines it. A folder's own file
//! (`mod.rs`, `lib.rs`) is its door: the files of the folder may stand on the words that the door defines, and what the
//! door takes from its own folder is no arrow. Tests inside the sources and what macros make are not looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use syn::visit::Visit;

/// A file, and the modules and names that it has.
struct Module {
    file: PathBuf,
    /// The module path in the crate.
    path: Vec<String>,
    children: BTreeSet<String>,
    /// What `use` brings in: the name here, the path it stands for, and whether it is passed on.
    uses: Vec<(String, Vec<String>, bool)>,
    /// Other paths in the code.
    paths: BTreeSet<Vec<String>>,
}

/// The files of a crate, by module path.
pub(crate) struct Sources(BTreeMap<Vec<String>, Module>);

impl Sources {
    /// Reads the module tree that begins in `root` (a `lib.rs` or `main.rs`).
    ///
    /// # Panics
    /// If a file cannot be read, or is no Rust.
    #[must_use]
    pub(crate) fn read(root: &Path) -> Self {
        let mut sources = Self(BTreeMap::new());
        sources.add(root, Vec::new());
        sources
    }

    fn add(&mut self, file: &Path, path: Vec<String>) {
        let text = fs::read_to_string(file).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
        let syntax = syn::parse_file(&text).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
        let mut reader = Reader::default();
        reader.visit_file(&syntax);
        let folder = folder_of(file, path.is_empty());
        for child in &reader.children {
            let places = [folder.join(format!("{child}.rs")), folder.join(child).join("mod.rs")];
            let found = places.iter().find(|place| place.exists());
            let found = found.unwrap_or_else(|| panic!("{}: there is no file for mod {child}", file.display()));
            self.add(found, [&path[..], std::slice::from_ref(child)].concat());
        }
        let Reader { children, uses, paths } = reader;
        self.0.insert(path.clone(), Module { file: file.into(), path, children, uses, paths });
    }

    /// From each file to those whose names it takes.
    #[must_use]
    pub(crate) fn arrows(&self) -> BTreeMap<PathBuf, BTreeSet<PathBuf>> {
        let arrows = self.0.values().map(|module| {
            let used = |name: &String| module.paths.iter().any(|path| path[0] == *name);
            let uses = module.uses.iter().filter(|(name, _, passed_on)| !passed_on || used(name));
            let paths = uses.map(|(_, path, _)| path).chain(&module.paths);
            let files = paths.filter_map(|path| self.definer(module, path, 0));
            let own = |of: &Self, file: &PathBuf| {
                of.0.values().any(|other| other.file == *file && other.path.starts_with(&module.path))
            };
            (module.file.clone(), files.filter(|file| !own(self, file)).collect())
        });
        arrows.collect()
    }

    /// The file that defines what a path means in a module, if it is of this crate.
    fn definer(&self, module: &Module, path: &[String], depth: u32) -> Option<PathBuf> {
        if let ["crate" | "self" | "super"] = path.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            return None; // how far something is visible
        }
        let (mut at, mut rest) = match path[0].as_str() {
            "crate" => (Vec::new(), &path[1..]),
            "self" => (module.path.clone(), &path[1..]),
            "super" => (module.path.split_last()?.1.to_vec(), &path[1..]),
            first if module.children.contains(first) => (module.path.clone(), path),
            _ => return None,
        };
        while let Some((first, left)) = rest.split_first() {
            if first == "super" {
                at.pop()?;
            } else if self.0[&at].children.contains(first) {
                at.push(first.clone());
            } else {
                break;
            }
            rest = left;
        }
        let here = &self.0[&at];
        let passed_on = rest.first().and_then(|name| here.uses.iter().find(|(known, ..)| known == name));
        match passed_on {
            Some((_, path, _)) if depth < 8 => self.definer(here, path, depth + 1),
            _ => Some(here.file.clone()),
        }
    }

    /// The circles: files each of which leads to all others. A file alone is none.
    #[must_use]
    pub(crate) fn circles(&self) -> Vec<BTreeSet<PathBuf>> {
        let arrows = self.arrows();
        let reach: BTreeMap<_, _> = arrows.keys().map(|file| (file, reachable(&arrows, file))).collect();
        let mut circles: Vec<BTreeSet<PathBuf>> = Vec::new();
        for (file, there) in &reach {
            let circle: BTreeSet<_> = there.iter().filter(|other| reach[other].contains(*file)).cloned().collect();
            if !circle.is_empty() && !circles.contains(&circle) {
                circles.push(circle);
            }
        }
        circles
    }
}

/// All that can be reached from a file by arrows; the file itself only by a circle.
fn reachable(arrows: &BTreeMap<PathBuf, BTreeSet<PathBuf>>, from: &Path) -> BTreeSet<PathBuf> {
    let (mut seen, mut left) = (BTreeSet::new(), vec![from.to_owned()]);
    while let Some(file) = left.pop() {
        for next in &arrows[&file] {
            if seen.insert(next.clone()) {
                left.push(next.clone());
            }
        }
    }
    seen
}

/// Where the files of a module's children are.
fn folder_of(file: &Path, is_root: bool) -> PathBuf {
    let folder = file.parent().expect("a file is in a folder");
    let is_mod = file.file_name().is_some_and(|name| name == "mod.rs");
    if is_root || is_mod { folder.into() } else { folder.join(file.file_stem().expect("a file has a name")) }
}

#[derive(Default)]
struct Reader {
    children: BTreeSet<String>,
    uses: Vec<(String, Vec<String>, bool)>,
    paths: BTreeSet<Vec<String>>,
}

fn is_for_tests(attributes: &[syn::Attribute]) -> bool {
    attributes.iter().any(|it| it.path().is_ident("cfg") && it.parse_args::<syn::Ident>().is_ok_and(|it| it == "test"))
}

impl Reader {
    fn flatten(&mut self, tree: &syn::UseTree, before: &[String], passed_on: bool) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            syn::UseTree::Path(path) => self.flatten(&path.tree, &with(&path.ident), passed_on),
            syn::UseTree::Name(name) if name.ident == "self" => {
                let module = before.last().cloned().unwrap_or_default();
                self.uses.push((module, before.to_vec(), passed_on));
            }
            syn::UseTree::Name(name) => self.uses.push((name.ident.to_string(), with(&name.ident), passed_on)),
            syn::UseTree::Rename(rename) => {
                self.uses.push((rename.rename.to_string(), with(&rename.ident), passed_on));
            }
            syn::UseTree::Glob(_) => self.uses.push(("*".into(), before.to_vec(), passed_on)),
            syn::UseTree::Group(group) => group.items.iter().for_each(|it| self.flatten(it, before, passed_on)),
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item_mod(&mut self, module: &'ast syn::ItemMod) {
        match &module.content {
            _ if is_for_tests(&module.attrs) => {}
            // A file that is shared with another crate.
            _ if module.attrs.iter().any(|it| it.path().is_ident("path")) => {}
            None => drop(self.children.insert(module.ident.to_string())),
            Some(_) => syn::visit::visit_item_mod(self, module),
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        if item.leading_colon.is_none() && !is_for_tests(&item.attrs) {
            self.flatten(&item.tree, &[], !matches!(item.vis, syn::Visibility::Inherited));
        }
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.leading_colon.is_none() {
            self.paths.insert(path.segments.iter().map(|segment| segment.ident.to_string()).collect());
        }
        syn::visit::visit_path(self, path);
    }
}
