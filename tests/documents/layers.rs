//! The layers of the source: modules import only from those below them, modules of different folders do not import each other
//! in a circle, and the command names only the library's public API.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::promises::sources;

/// The modules of the library, from the lowest layer up. Each imports only from those before it. ARCHITECTURE.md explains them.
const ORDER: [&str; 20] = [
    "util",
    "types",
    "hash",
    "net",
    "utp",
    "udp",
    "bencode",
    "http_server",
    "metainfo",
    "wire",
    "mse",
    "strategy",
    "storage",
    "pieces",
    "discovery",
    "tracker_server",
    "peer",
    "client",
    "torrent",
    "service",
];

/// The modules of the command below `cli`, likewise.
const COMMAND_ORDER: [&str; 15] = [
    "exit",
    "stop",
    "signals",
    "terminal",
    "report",
    "limits",
    "outcome",
    "options",
    "run_page",
    "no_run_page",
    "settings",
    "source",
    "logs",
    "batch",
    "commands",
];

/// A module's path without `crate`.
pub type ModulePath = Vec<String>;

/// The source text of each module by its path; the library itself has an empty one.
fn modules() -> BTreeMap<ModulePath, String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let module = |file: &Path| {
        let below = file.strip_prefix(&root).expect("a file of src").with_extension("");
        let path: ModulePath = below.iter().map(|part| part.to_str().expect("UTF-8").to_owned()).collect();
        let text = std::fs::read_to_string(file).expect("a source file");
        (if path == ["lib"] { Vec::new() } else { path }, text)
    };
    sources().iter().map(|file| module(file)).collect()
}

/// The code of each module without tests, comments and strings.
pub fn code() -> BTreeMap<ModulePath, String> {
    let mut modules = modules();
    let tests: BTreeSet<ModulePath> = modules.iter().flat_map(|(path, text)| test_modules(path, text)).collect();
    modules.retain(|path, _| !(1..=path.len()).any(|length| tests.contains(&path[..length])));
    modules.into_iter().map(|(path, text)| (path, without_comments_and_strings(&text))).collect()
}

fn is_of_the_command(path: &[String]) -> bool {
    path.first().is_some_and(|module| matches!(module.as_str(), "cli" | "main"))
}

/// Of test code, too.
#[test]
fn imports_point_down() {
    let place = |module: &str| ORDER.iter().position(|name| *name == module);
    let mut count = 0;
    for (path, text) in modules().into_iter().filter(|(path, _)| !is_of_the_command(path)) {
        let Some(module) = path.first() else { continue };
        let own =
            place(module).unwrap_or_else(|| panic!("{module} has no layer: give it one here and in ARCHITECTURE.md"));
        assert!(!text.contains("crate::{"), "{path:?}: one line for each module");
        for name in text.split("crate::").skip(1).map(first_word) {
            let other = place(name).unwrap_or_else(|| panic!("{path:?}: crate::{name} has no layer"));
            assert!(other <= own, "{path:?}: {module} must not import from {name}");
            count += 1;
        }
    }
    assert!(count > 500, "only {count} imports were found");
}

fn first_word(text: &str) -> &str {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').next().unwrap_or_default()
}

/// The modules that `lib.rs` hides are no part of the face. Beside itself, the command may name `util`, which it compiles too.
#[test]
fn the_command_names_only_the_public_face() {
    let modules = modules();
    let library = &modules[&Vec::new()];
    let hidden: BTreeSet<_> = library.split("#[doc(hidden)]\npub mod ").skip(1).map(first_word).collect();
    assert_eq!(hidden, BTreeSet::from(ORDER), "the modules that lib.rs hides");
    let mut count = 0;
    for (path, text) in modules.iter().filter(|(path, _)| is_of_the_command(path)) {
        let own = text.split("crate::").skip(1).map(first_word).all(|name| matches!(name, "cli" | "util"));
        assert!(own, "{path:?}: the command has no module but cli and util");
        let code = without_comments_and_strings(text);
        let trees = used(&code).into_iter().chain(inline(&code));
        for segments in trees.filter(|segments| segments[0] == "btsync") {
            let name = segments.get(1).map_or("", String::as_str);
            assert!(!hidden.contains(name), "{path:?}: btsync::{name} is not public");
            count += 1;
        }
    }
    assert!(count > 50, "only {count} imports were found");
}

/// Only `cli` itself, which starts the subcommands, may import from all of them.
#[test]
fn imports_of_the_command_point_down() {
    let place = |path: &[String]| {
        let found = COMMAND_ORDER.iter().position(|name| *name == path[1]);
        found.unwrap_or_else(|| panic!("cli::{} has no layer: give it one here", path[1]))
    };
    let is_below_cli = |path: &[String]| path.len() > 1 && path[0] == "cli";
    let mut count = 0;
    for (path, others) in Graph::of_the_source().edges.iter().filter(|(path, _)| is_below_cli(path)) {
        for other in others.iter().filter(|other| other.first().is_some_and(|module| module == "cli")) {
            let is_below = other.len() > 1 && place(other) <= place(path);
            assert!(is_below, "{} must not import from {}", path.join("::"), other.join("::"));
            count += 1;
        }
    }
    assert!(count > 100, "only {count} imports were found");
}

/// Within each folder, a module that is a folder itself has no import cycle with its siblings: one of them is
/// the lower one. Small modules that share a folder may know each other, and so may a folder's own `foo.rs` and what is in it.
#[test]
fn folders_do_not_import_each_other_in_a_circle() {
    let graph = Graph::of_the_source();
    assert!(graph.edges.values().map(BTreeSet::len).sum::<usize>() > 500, "too few imports were found");
    let parents: BTreeSet<&[String]> = graph.edges.keys().filter_map(|path| Some(path.split_last()?.1)).collect();
    for parent in parents {
        let siblings = graph.among_children_of(parent);
        for folder in siblings.keys().filter(|child| graph.is_folder(child)) {
            if let Some(circle) = way_back(&siblings, folder) {
                let names: Vec<_> = circle.iter().map(|path| path.join("::")).collect();
                panic!("an import cycle: {}", names.join(" -> "));
            }
        }
    }
}

/// Which module imports from which.
struct Graph {
    edges: BTreeMap<ModulePath, BTreeSet<ModulePath>>,
}

impl Graph {
    fn of_the_source() -> Graph {
        let modules = code();
        // By module and name, where a name that the module imports comes from.
        let mut imported = BTreeMap::new();
        for (path, code) in &modules {
            for segments in used(code) {
                if let (Some(from), Some(name)) = (absolute(path, &segments, &modules), segments.last()) {
                    imported.insert((path.clone(), name.clone()), from);
                }
            }
        }
        let edges = modules.iter().map(|(path, code)| {
            let all = used(code).into_iter().chain(inline(code));
            let from = all.filter_map(|segments| absolute(path, &segments, &modules));
            (path.clone(), from.map(|from| home(from, &modules, &imported)).filter(|home| home != path).collect())
        });
        Graph { edges: edges.collect() }
    }

    /// Whether there are modules below this one.
    fn is_folder(&self, path: &[String]) -> bool {
        self.edges.keys().any(|other| other.len() > path.len() && other.starts_with(path))
    }

    /// The imports among the children of a module, each taken with all that is below it.
    fn among_children_of(&self, parent: &[String]) -> BTreeMap<ModulePath, BTreeSet<ModulePath>> {
        let child = |path: &ModulePath| {
            let is_below = path.len() > parent.len() && path.starts_with(parent);
            is_below.then(|| path[..=parent.len()].to_vec())
        };
        let mut among: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for (path, others) in &self.edges {
            let Some(own) = child(path) else { continue };
            let others = others.iter().filter_map(child).filter(|other| *other != own);
            among.entry(own.clone()).or_default().extend(others);
        }
        among
    }
}

/// The shortest chain of imports from `start` to itself.
fn way_back(graph: &BTreeMap<ModulePath, BTreeSet<ModulePath>>, start: &ModulePath) -> Option<Vec<ModulePath>> {
    let mut seen = BTreeSet::new();
    let mut chains = std::collections::VecDeque::from([vec![start.clone()]]);
    while let Some(chain) = chains.pop_front() {
        for next in graph.get(chain.last()?).into_iter().flatten() {
            let longer = [&chain[..], std::slice::from_ref(next)].concat();
            if next == start {
                return Some(longer);
            }
            if seen.insert(next.clone()) {
                chains.push_back(longer);
            }
        }
    }
    None
}

/// The modules that are compiled for tests only.
fn test_modules(path: &[String], text: &str) -> Vec<ModulePath> {
    let declared = text.split("#[cfg(test)]\n").skip(1).filter_map(|rest| {
        let line = rest.lines().next()?.strip_suffix(';')?;
        line.rsplit_once("mod ").map(|(_, name)| name.to_owned())
    });
    declared.map(|name| [path, &[name]].concat()).collect()
}

/// The code of a module up to its inline tests, without what might look like a path and is none.
fn without_comments_and_strings(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default().replace("'\"'", "''");
    let (mut code, mut rest) = (String::new(), text.as_str());
    while let Some(at) = rest.find(['"', '/']) {
        code.push_str(&rest[..at]);
        let after = &rest[at..];
        if after.starts_with("//") {
            rest = after.find('\n').map_or("", |end| &after[end..]);
        } else if let Some(after) = after.strip_prefix('/') {
            code.push('/');
            rest = after;
        } else if code.ends_with("r#") {
            rest = after[1..].find("\"#").map_or("", |end| &after[end + 3..]);
        } else {
            let mut escaped = false;
            let end = after[1..].find(|c: char| {
                let ends = c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                ends
            });
            rest = end.map_or("", |end| &after[end + 2..]);
        }
    }
    code.push_str(rest);
    code
}

/// The paths of all `use` declarations.
fn used(code: &str) -> Vec<Vec<String>> {
    let is_of_tree = |c: char| c.is_ascii_alphanumeric() || "_:{}*, \n".contains(c);
    let mut paths = Vec::new();
    for statement in code.split(';') {
        let Some((before, tree)) = statement.rsplit_once("use ") else { continue };
        if (before.is_empty() || before.ends_with([' ', '\n'])) && tree.chars().all(is_of_tree) {
            expand(tree, &[], &mut paths);
        }
    }
    paths
}

/// The paths of a tree such as `a::{b, c::{d, e}}`.
fn expand(tree: &str, prefix: &[String], paths: &mut Vec<Vec<String>>) {
    let tree = tree.trim();
    let words = |text: &str| -> Vec<String> {
        text.split("::").map(|word| word.trim().to_owned()).filter(|word| !word.is_empty()).collect()
    };
    let Some((head, inner)) = tree.split_once('{') else {
        let name = tree.split(" as ").next().unwrap_or_default();
        let mut path = [prefix, &words(name)].concat();
        if path.len() > 1 && path.last().is_some_and(|last| last == "self") {
            path.pop();
        }
        if !path.is_empty() {
            paths.push(path);
        }
        return;
    };
    let prefix = [prefix, &words(head)].concat();
    let inner = inner.trim_end().strip_suffix('}').unwrap_or(inner);
    let (mut depth, mut start) = (0, 0);
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                expand(&inner[start..at], &prefix, paths);
                start = at + 1;
            }
            _ => {}
        }
    }
    expand(&inner[start..], &prefix, paths);
}

/// The paths that stand in the code itself, such as `strategy::eviction::choose`.
fn inline(code: &str) -> Vec<Vec<String>> {
    let words = code.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    let paths = words.filter(|word| word.contains("::") && !word.starts_with(':'));
    paths.map(|path| path.split("::").filter(|word| !word.is_empty()).map(str::to_owned).collect()).collect()
}

/// The path from the crate's root of what a module names; `None` for other crates and for local names.
fn absolute(module: &[String], segments: &[String], modules: &BTreeMap<ModulePath, String>) -> Option<ModulePath> {
    let supers = segments.iter().take_while(|word| *word == "super").count();
    match segments.first()?.as_str() {
        "crate" => Some(segments[1..].to_vec()),
        "self" => Some([module, &segments[1..]].concat()),
        "super" => Some([module.get(..module.len().checked_sub(supers)?)?, &segments[supers..]].concat()),
        child => {
            let is_child = modules.contains_key(&[module, &[child.to_owned()]].concat());
            is_child.then(|| [module, segments].concat())
        }
    }
}

/// The module that something is in, past the modules that only pass it on.
fn home(
    mut path: ModulePath,
    modules: &BTreeMap<ModulePath, String>,
    imported: &BTreeMap<(ModulePath, String), ModulePath>,
) -> ModulePath {
    for _ in 0..10 {
        let length = (0..=path.len()).rev().find(|length| modules.contains_key(&path[..*length])).unwrap_or(0);
        let module = path[..length].to_vec();
        let Some(name) = path.get(length) else { return module };
        let Some(from) = imported.get(&(module.clone(), name.clone())) else { return module };
        path = [&from[..], &path[length + 1..]].concat();
    }
    panic!("{path:?} is passed on in a circle");
}

#[test]
fn paths_are_found() {
    let code = without_comments_and_strings(
        "use a::{b::C, d::{self, E}};\n// use f::g;\nlet x = \"h::i\"; super::j::k::<u8>();",
    );
    let joined = |paths: Vec<Vec<String>>| paths.into_iter().map(|path| path.join("::")).collect::<Vec<_>>();
    assert_eq!(joined(used(&code)), ["a::b::C", "a::d", "a::d::E"]);
    assert!(joined(inline(&code)).contains(&"super::j::k".to_owned()), "{code}");
}
