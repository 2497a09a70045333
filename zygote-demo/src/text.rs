//! Where the text comes from: files and folders, and their words.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use walkdir::{DirEntry, WalkDir};

/// Ends of names of the files that are read when no path is given.
const OWN_TEXT: [&str; 3] = ["md", "rs", "toml"];

/// One text file.
#[derive(Debug, Hash)]
pub(crate) struct Document {
    pub(crate) name: String,
    pub(crate) text: String,
}

/// Reads every text file under `paths`, or, if there are none, this repository's own text. The order is that of the names, so that two processes that read the
/// same files give documents the same numbers. Files that are not UTF-8 are no text and are passed over.
pub(crate) fn read(paths: &[PathBuf]) -> Result<Vec<Document>> {
    let mut documents = Vec::new();
    if paths.is_empty() {
        let repository = find_repository().context(
            "no text to index: name files or folders (this repository's own text, which is the default, is not above the current folder or the program)",
        )?;
        read_below(
            &repository,
            &|path| has_extension(path, &OWN_TEXT),
            &mut documents,
        )?;
    }
    for path in paths {
        read_below(path, &|_| true, &mut documents)?;
    }
    if documents
        .iter()
        .all(|document| words(&document.text).next().is_none())
    {
        bail!("no words in the files given: nothing to index");
    }
    Ok(documents)
}

fn read_below(
    root: &Path,
    wanted: &dyn Fn(&Path) -> bool,
    documents: &mut Vec<Document>,
) -> Result<()> {
    let walk = WalkDir::new(root)
        .sort_by_file_name()
        .into_iter()
        .filter_entry(|entry| entry.depth() == 0 || !is_apart(entry));
    for entry in walk {
        let entry = entry.with_context(|| format!("cannot read {}", root.display()))?;
        if !entry.file_type().is_file() || !wanted(entry.path()) {
            continue;
        }
        let bytes = fs::read(entry.path())
            .with_context(|| format!("cannot read {}", entry.path().display()))?;
        if let Ok(text) = String::from_utf8(bytes) {
            let name = entry
                .path()
                .strip_prefix(root)
                .ok()
                .filter(|rest| !rest.as_os_str().is_empty())
                .unwrap_or(entry.path());
            documents.push(Document {
                name: name.display().to_string(),
                text,
            });
        }
    }
    Ok(())
}

/// Hidden files and what builds leave behind.
fn is_apart(entry: &DirEntry) -> bool {
    let name = entry.file_name().to_string_lossy();
    name.starts_with('.') || name == "target"
}

fn has_extension(path: &Path, any_of: &[&str]) -> bool {
    path.extension()
        .and_then(|end| end.to_str())
        .is_some_and(|end| any_of.contains(&end))
}

/// The folder of this repository, looked for upwards from the current folder, then from the program's.
fn find_repository() -> Option<PathBuf> {
    let starts = [std::env::current_dir().ok(), std::env::current_exe().ok()];
    let is_ours = |folder: &&Path| {
        folder.join("zygote-demo/Cargo.toml").is_file() && folder.join("README.md").is_file()
    };
    starts
        .iter()
        .flatten()
        .find_map(|start| start.ancestors().find(is_ours).map(Path::to_path_buf))
}

/// The words of a text, in small letters: runs of letters, digits and underscores.
pub(crate) fn words(text: &str) -> impl Iterator<Item = String> + '_ {
    text.split(|c: char| !c.is_alphanumeric() && c != '_')
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> Vec<String> {
        words(text).collect()
    }

    #[test]
    fn words_are_runs_of_letters_digits_and_underscores() {
        assert_eq!(
            list("Page-fault: a `vmo_write`, 2 ms."),
            ["page", "fault", "a", "vmo_write", "2", "ms"]
        );
        assert_eq!(list("ÄRGER über µ"), ["ärger", "über", "µ"]);
        assert!(list(" .,;\n—").is_empty());
    }

    #[test]
    fn documents_come_in_the_order_of_their_names() {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in [
            ("b.txt", &b"two"[..]),
            ("a.txt", b"one"),
            (".hidden", b"no"),
            ("noise.bin", b"\xff\xfe"),
        ] {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        fs::create_dir(folder.path().join("target")).unwrap();
        fs::write(folder.path().join("target/c.txt"), "three").unwrap();
        let documents = read(&[folder.path().to_path_buf()]).unwrap();
        let read: Vec<_> = documents
            .iter()
            .map(|document| (document.name.as_str(), document.text.as_str()))
            .collect();
        assert_eq!(read, [("a.txt", "one"), ("b.txt", "two")]);
    }

    #[test]
    fn a_path_that_is_not_there_is_named() {
        let error = read(&["/nowhere/at-all".into()]).unwrap_err();
        assert!(
            format!("{error:#}").contains("/nowhere/at-all"),
            "{error:#}"
        );
    }

    #[test]
    fn this_repository_is_found() {
        // The README may not be written yet where this crate is tested alone.
        if let Some(folder) = find_repository() {
            assert!(folder.join("zygote-demo/src/text.rs").is_file());
        }
    }
}
