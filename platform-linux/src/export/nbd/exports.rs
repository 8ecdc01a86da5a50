//! What clients can choose from.

use super::wire::TransmissionFlags;

/// A logical unit as the protocol describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Export {
    /// Its names, the one it is listed under first.
    pub(super) names: Vec<String>,
    /// For people.
    pub(super) description: String,
    /// Its size.
    pub(super) bytes: u64,
    /// The least and the alignment that a request may have.
    pub(super) block_bytes: u32,
    /// From where on requests are efficient.
    pub(super) preferred_bytes: u32,
    /// The most data in one request.
    pub(super) most_bytes: u32,
    /// What it can do.
    pub(super) flags: TransmissionFlags,
}

/// The exports of a server, under keys that stay. The first is the default.
#[derive(Clone, Debug, Default)]
pub(super) struct Exports(Vec<Option<Export>>);

impl Exports {
    /// Puts one under a key, whatever was there.
    pub(super) fn put(&mut self, key: usize, export: Export) {
        if self.0.len() <= key {
            self.0.resize(key + 1, None);
        }
        if let Some(place) = self.0.get_mut(key) {
            *place = Some(export);
        }
    }

    /// Takes one away.
    pub(super) fn remove(&mut self, key: usize) {
        self.0.get_mut(key).and_then(Option::take);
    }

    /// Every one, in the order of the keys.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Export> {
        self.0.iter().flatten()
    }

    /// The one with the key.
    pub(super) fn get(&self, key: usize) -> Option<&Export> {
        self.0.get(key)?.as_ref()
    }

    /// The one with the name, which is empty for the default one.
    pub(super) fn find(&self, name: &[u8]) -> Option<(usize, &Export)> {
        let mut present =
            self.0.iter().enumerate().filter_map(|(key, export)| Some((key, export.as_ref()?)));
        if name.is_empty() {
            return present.next();
        }
        present.find(|(_, export)| export.names.iter().any(|known| known.as_bytes() == name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stay_when_others_go() {
        let export = |name: &str| Export {
            names: vec![name.into()],
            description: String::new(),
            bytes: 512,
            block_bytes: 512,
            preferred_bytes: 4096,
            most_bytes: 1 << 20,
            flags: TransmissionFlags::HAS_FLAGS,
        };
        let mut exports = Exports::default();
        exports.put(0, export("a"));
        exports.put(1, export("b"));
        exports.remove(0);
        assert_eq!(exports.find(b"b").map(|(key, _)| key), Some(1));
        assert_eq!(exports.find(b"").map(|(key, _)| key), Some(1), "the first that is there");
        assert!(exports.find(b"a").is_none());
        exports.put(0, export("c"));
        assert_eq!(exports.find(b"").map(|(key, _)| key), Some(0));
    }
}
