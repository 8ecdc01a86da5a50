//! The shared libraries that programs need, found in a folder that packages were unpacked into.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use object::elf::{DT_NEEDED, FileHeader64};
use object::read::elf::{Dyn, FileHeader};
use object::{Endianness, SectionIndex};

/// Where Debian's programs on x86-64 look for libraries, and where some keep their own.
const FOLDERS: &[&str] = &["lib", "usr/lib", "lib64", "usr/lib64"];

/// Every library that `programs` need, directly or through another, by name; and those called
/// `also`.
pub(crate) fn closure(
    root: &Path,
    programs: &[PathBuf],
    also: &[&str],
) -> Result<BTreeMap<String, PathBuf>, String> {
    let known = all(root);
    let mut found = BTreeMap::new();
    let mut missing = BTreeSet::new();
    let mut to_read: Vec<PathBuf> = programs.to_vec();
    let mut names: Vec<String> = also.iter().map(|name| (*name).to_owned()).collect();
    loop {
        for name in std::mem::take(&mut names) {
            if found.contains_key(&name) {
                continue;
            }
            let Some(library) = known.get(&name) else {
                missing.insert(name);
                continue;
            };
            to_read.push(library.clone());
            found.insert(name, library.clone());
        }
        match to_read.pop() {
            Some(path) => names = needed(&path)?,
            None => break,
        }
    }
    if missing.is_empty() {
        return Ok(found);
    }
    let names: Vec<String> = missing.into_iter().collect();
    Err(format!("no package brought the libraries {}", names.join(", ")))
}

/// Every file that may be a library, by name.
fn all(root: &Path) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    let mut folders: Vec<PathBuf> = FOLDERS.iter().map(|folder| root.join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            // A link to a folder could lead out of here or in a circle.
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            } else if let Ok(name) = entry.file_name().into_string()
                && name.contains(".so")
            {
                found.entry(name).or_insert(path);
            }
        }
    }
    found
}

/// The libraries that one program or library names; none for what is no program of x86-64, such
/// as a script.
fn needed(path: &Path) -> Result<Vec<String>, String> {
    let bytes = fs::read(path).map_err(|error| format!("reading {}: {error}", path.display()))?;
    if !bytes.starts_with(b"\x7fELF") {
        return Ok(Vec::new());
    }
    parse(&bytes).map_err(|error| format!("reading {}: {error}", path.display()))
}

fn parse(bytes: &[u8]) -> object::Result<Vec<String>> {
    let header = FileHeader64::<Endianness>::parse(bytes)?;
    let endian = header.endian()?;
    let sections = header.sections(endian, bytes)?;
    let Some((entries, strings)) = sections.dynamic(endian, bytes)? else {
        return Ok(Vec::new());
    };
    let strings = if strings == SectionIndex(0) {
        return Ok(Vec::new());
    } else {
        sections.strings(endian, bytes, strings)?
    };
    let mut names = Vec::new();
    for entry in entries {
        if entry.tag32(endian) == Some(DT_NEEDED) {
            let name = entry.string(endian, strings)?;
            names.push(String::from_utf8_lossy(name).into_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_very_program_needs_the_c_library() {
        let program = std::env::current_exe().expect("a path");
        let names = needed(&program).expect("a program");
        assert!(names.iter().any(|name| name.starts_with("libc.so")), "{names:?}");
    }

    #[test]
    fn a_library_that_no_package_brought_is_named() {
        let program = std::env::current_exe().expect("a path");
        let error = closure(Path::new("/no/such/folder"), &[program], &[]).unwrap_err();
        assert!(error.contains("libc.so"), "{error}");
    }
}
