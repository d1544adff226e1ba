//! The tree is the architecture: a module imports only from ranks above its own.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

const RANKS: [&[&str]; 8] = [
    &["failure", "budget", "claim"],
    &["config", "protocol", "schema"],
    &["aws", "encode"],
    &["stage"],
    &["lake"],
    &["pipeline", "check"],
    &["cli"],
    &["main", "lib"],
];

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            found.push(path);
        }
    }
}

/// Modules named after `crate::` in a source, those of a braced list included.
fn imports(text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (at, _) in text.match_indices("crate::") {
        let before = text[..at].chars().next_back().unwrap_or(' ');
        if before.is_alphanumeric() || before == '_' {
            continue;
        }
        let rest = &text[at + "crate::".len()..];
        let name = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
        match rest.strip_prefix('{') {
            Some(list) => found.extend(list[..list.find("};").unwrap()].split(',').map(|part| name(part.trim()))),
            None => found.push(name(rest)),
        }
    }
    found
}

#[test]
fn modules_import_only_from_ranks_above_their_own() {
    let rank: HashMap<&str, usize> =
        RANKS.iter().enumerate().flat_map(|(rank, names)| names.iter().map(move |name| (*name, rank))).collect();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    let mut checked = 0;
    for file in files {
        let inside = file.strip_prefix(&root).unwrap();
        let module = inside.iter().next().unwrap().to_str().unwrap().trim_end_matches(".rs").to_owned();
        let own = *rank.get(module.as_str()).unwrap_or_else(|| panic!("{module} has no rank"));
        for import in imports(&std::fs::read_to_string(&file).unwrap()) {
            let Some(&other) = rank.get(import.as_str()) else { continue };
            let allowed = other < own || import == module;
            assert!(allowed, "{}: {module} (rank {own}) imports {import} (rank {other})", inside.display());
            checked += 1;
        }
    }
    assert!(checked > 100, "only {checked} imports were seen");
}

#[test]
fn only_the_emitter_knows_standard_output() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    sources(&root, &mut files);
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        let writes = text.contains("io::stdout") || text.contains("println!") || text.contains("stdio::stdout");
        assert!(!writes || name == "emitter.rs", "{}", file.display());
    }
}
