//! An archive that a kernel unpacks at boot: cpio in its "newc" form.

use std::collections::BTreeSet;

const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;
const LINK: u32 = 0o120_000;

/// An archive under way. Folders are added as they are needed; all belongs to root.
#[derive(Default)]
pub(crate) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    folders: BTreeSet<String>,
}

impl Archive {
    /// Adds a file at `path`, without a leading slash, with its permissions.
    pub(crate) fn file(&mut self, path: &str, permissions: u32, content: &[u8]) {
        self.parents(path);
        self.entry(path, REGULAR | permissions, content);
    }

    /// Adds a symbolic link at `path` that points to `target`.
    pub(crate) fn link(&mut self, path: &str, target: &str) {
        self.parents(path);
        self.entry(path, LINK | 0o777, target.as_bytes());
    }

    /// Adds a folder and those above it, if they are not there yet.
    pub(crate) fn folder(&mut self, path: &str) {
        self.parents(path);
        if self.folders.insert(path.to_owned()) {
            self.entry(path, DIRECTORY | 0o755, &[]);
        }
    }

    fn parents(&mut self, path: &str) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.folder(parent);
        }
    }

    fn entry(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.entries += 1;
        let size = u32::try_from(content.len()).expect("a file of an initramfs is small");
        let name_size = u32::try_from(path.len() + 1).expect("a path is short");
        // Inode, mode, user, group, links, time, size, device (2), device node (2), length of the
        // name, checksum: each as eight hexadecimal digits.
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, 0, 0, name_size, 0]
            .map(|field| format!("{field:08x}"));
        self.bytes.extend_from_slice(b"070701");
        self.bytes.extend_from_slice(fields.concat().as_bytes());
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// The archive's bytes. Archives can follow each other in one file.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Path, mode and content of each entry, read as a kernel does it.
    fn entries(mut bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
        let mut entries = Vec::new();
        loop {
            assert_eq!(&bytes[..6], b"070701");
            let field = |index: usize| {
                let digits = &bytes[6 + index * 8..14 + index * 8];
                u32::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap()
            };
            let (mode, size, name_size) = (field(1), field(6) as usize, field(11) as usize);
            let name = String::from_utf8(bytes[110..110 + name_size - 1].to_vec()).unwrap();
            let content = (110 + name_size).next_multiple_of(4);
            entries.push((name.clone(), mode, bytes[content..content + size].to_vec()));
            bytes = &bytes[(content + size).next_multiple_of(4)..];
            if name == "TRAILER!!!" {
                assert!(bytes.is_empty());
                return entries;
            }
        }
    }

    #[test]
    fn folders_come_before_what_is_in_them_and_once() {
        let mut archive = Archive::default();
        archive.file("lib/a/one", 0o755, b"12345");
        archive.file("lib/a/two", 0o644, b"");
        archive.link("init", "lib/a/one");
        let expected = [
            ("lib", DIRECTORY | 0o755, ""),
            ("lib/a", DIRECTORY | 0o755, ""),
            ("lib/a/one", REGULAR | 0o755, "12345"),
            ("lib/a/two", REGULAR | 0o644, ""),
            ("init", LINK | 0o777, "lib/a/one"),
            ("TRAILER!!!", 0, ""),
        ]
        .map(|(name, mode, content)| (name.to_owned(), mode, content.as_bytes().to_vec()));
        assert_eq!(entries(&archive.finish()), expected);
    }
}
