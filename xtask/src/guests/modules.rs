//! Modules of a kernel: which ones a list of names needs, and the index by which a guest's
//! `modprobe` finds them.
//!
//! Debian's packages bring no index, since `depmod` makes it when one is installed. It holds what
//! each module says of itself in its section `.modinfo`, so it is made from that here.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use object::{Object, ObjectSection};

/// What a module says of itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct ModuleInfo {
    /// Modules whose symbols it uses.
    depends: Vec<String>,
    /// Modules to load before it where there are any.
    before: Vec<String>,
    /// Names by which the kernel asks for it.
    aliases: Vec<String>,
}

impl ModuleInfo {
    /// Reads a module's file, uncompressed.
    pub(crate) fn parse(module: &[u8]) -> Result<Self, String> {
        let file = object::File::parse(module).map_err(|error| format!("no module: {error}"))?;
        let section = file.section_by_name(".modinfo").ok_or("a module without .modinfo")?;
        let text = section.data().map_err(|error| format!(".modinfo: {error}"))?;
        Ok(Self::from_text(text))
    }

    fn from_text(text: &[u8]) -> Self {
        let mut info = Self::default();
        for entry in text.split(|byte| *byte == 0) {
            let entry = String::from_utf8_lossy(entry);
            match entry.split_once('=') {
                Some(("depends", names)) => {
                    info.depends.extend(names.split(',').filter(|n| !n.is_empty()).map(canonical));
                }
                // "pre: a b post: c"
                Some(("softdep", words)) => {
                    let mut words = words.split_whitespace();
                    if words.next() == Some("pre:") {
                        info.before.extend(words.take_while(|w| !w.ends_with(':')).map(canonical));
                    }
                }
                Some(("alias", alias)) => info.aliases.push(alias.to_owned()),
                _ => {}
            }
        }
        info
    }
}

/// The kernel takes hyphens and underscores in a module's name for the same.
pub(crate) fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

/// Modules by canonical name, each with what it says of itself.
pub(crate) type Modules = BTreeMap<String, ModuleInfo>;

/// Every module that `wanted` need, those included. What a kernel has built in, or does not have,
/// is asked of `read` and left out.
pub(crate) fn closure(
    wanted: &[&str],
    mut read: impl FnMut(&str) -> Result<Option<ModuleInfo>, String>,
) -> Result<Modules, String> {
    let mut modules = Modules::new();
    let mut names: Vec<String> = wanted.iter().map(|name| canonical(name)).collect();
    while let Some(name) = names.pop() {
        if modules.contains_key(&name) {
            continue;
        }
        if let Some(info) = read(&name)? {
            names.extend(info.depends.iter().chain(&info.before).cloned());
            modules.insert(name, info);
        }
    }
    Ok(modules)
}

/// The index `modules.dep`: each module with all that it needs, the one needed first last.
pub(crate) fn dependency_index(modules: &Modules) -> String {
    let mut text = String::new();
    for name in modules.keys() {
        let mut needed = Vec::new();
        collect(modules, name, &mut needed);
        let _ = write!(text, "{name}.ko:");
        for other in needed.iter().rev().filter(|other| *other != name) {
            let _ = write!(text, " {other}.ko");
        }
        text.push('\n');
    }
    text
}

/// Adds what `name` needs and then `name` itself, each once.
fn collect(modules: &Modules, name: &str, needed: &mut Vec<String>) {
    if needed.iter().any(|already| already == name) {
        return;
    }
    let Some(info) = modules.get(name) else {
        return;
    };
    for other in info.before.iter().chain(&info.depends) {
        collect(modules, other, needed);
    }
    needed.push(name.to_owned());
}

/// The index `modules.alias`.
pub(crate) fn alias_index(modules: &Modules) -> String {
    let mut text = String::new();
    for (name, info) in modules {
        for alias in &info.aliases {
            let _ = writeln!(text, "alias {alias} {name}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(depends: &[&str], before: &[&str]) -> ModuleInfo {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        ModuleInfo { depends: names(depends), before: names(before), aliases: Vec::new() }
    }

    fn kernel(name: &str) -> Result<Option<ModuleInfo>, String> {
        Ok(match name {
            "disk" => Some(info(&["bus", "check"], &[])),
            "bus" => Some(info(&["common"], &["check"])),
            "common" | "check" => Some(info(&[], &[])),
            _ => None,
        })
    }

    #[test]
    fn what_a_module_says_is_read() {
        let text = b"license=GPL\0depends=crc-t10dif,scsi_mod\0softdep=pre: crct10dif post: x\0\
                     alias=scsi:t-0x00*\0alias=scsi:t-0x07*\0name=sd_mod\0";
        let expected = ModuleInfo {
            aliases: vec!["scsi:t-0x00*".to_owned(), "scsi:t-0x07*".to_owned()],
            ..info(&["crc_t10dif", "scsi_mod"], &["crct10dif"])
        };
        assert_eq!(ModuleInfo::from_text(text), expected);
        let nothing = ModuleInfo::from_text(b"depends=\0");
        assert_eq!(nothing, ModuleInfo::default());
    }

    #[test]
    fn the_closure_leaves_out_what_is_built_in() {
        let modules = closure(&["disk", "built-in"], kernel).unwrap();
        assert_eq!(modules.keys().collect::<Vec<_>>(), ["bus", "check", "common", "disk"]);
    }

    #[test]
    fn the_index_names_what_is_needed_first_last() {
        let modules = closure(&["disk"], kernel).unwrap();
        let index = dependency_index(&modules);
        assert!(index.contains("disk.ko: bus.ko common.ko check.ko\n"), "{index}");
        assert!(index.contains("check.ko:\n"), "{index}");
    }
}
