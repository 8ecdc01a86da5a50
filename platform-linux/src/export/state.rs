//! What an export leaves behind for the next one, and for udev: which unit is which block device.
//!
//! One file for each bus, below [`FOLDER`](super::FOLDER). It is rewritten whole and put in place at once, so a
//! reader sees the one or the other; a lock beside it keeps a second export of the bus out.

use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};

use crate::bus_name::BusName;
use crate::error::Error;
use crate::export::unit::Unit;

/// One block device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its number: `/dev/ublkbN`.
    pub device: u32,
    /// What identifies the unit behind it for ever ([`Unit::identity`]).
    pub identity: String,
    /// Its target.
    pub target: u16,
    /// Its logical unit number.
    pub lun: u8,
    /// `wwn-0x...`, if it has a name.
    pub wwn: Option<String>,
    /// `scsi-3...`, if it has a name.
    pub scsi: Option<String>,
    /// Its serial number.
    pub serial: String,
    /// Its vendor.
    pub vendor: String,
    /// Its product.
    pub product: String,
    /// Its revision.
    pub revision: String,
}

impl Entry {
    /// The entry of a unit.
    #[must_use]
    pub fn new(device: u32, identity: &str, unit: &Unit) -> Self {
        Self {
            device,
            identity: identity.to_owned(),
            target: unit.target.0,
            lun: unit.lun,
            wwn: unit.name.as_ref().map(|name| name.wwn_link()),
            scsi: unit.name.as_ref().map(|name| name.scsi_link()),
            serial: unit.serial.clone(),
            vendor: unit.vendor.clone(),
            product: unit.product.clone(),
            revision: unit.revision.clone(),
        }
    }

    /// What udev is told of it, as `NAME=value` lines (`IMPORT{program}` of udev(7)).
    #[must_use]
    pub fn properties(&self) -> String {
        // As udev's own programs have it: no blanks, nothing that a shell or a path stumbles over.
        let clean = |text: &str| {
            let sound = |c: char| c.is_ascii_alphanumeric() || "#+-.:=@_".contains(c);
            let text: String =
                text.trim().chars().map(|c| if sound(c) { c } else { '_' }).collect();
            text
        };
        let mut text = String::from("ID_BUS=scsi\nID_TYPE=disk\n");
        let mut line = |name: &str, value: &str| {
            if !value.is_empty() {
                text.push_str(&format!("{name}={}\n", clean(value)));
            }
        };
        line("ID_VENDOR", &self.vendor);
        line("ID_MODEL", &self.product);
        line("ID_REVISION", &self.revision);
        line("ID_SCSI_SERIAL", &self.serial);
        if let Some(wwn) = &self.wwn {
            let number = wwn.trim_start_matches("wwn-");
            line("ID_WWN", number);
            line("ID_WWN_WITH_EXTENSION", number);
        }
        if let Some(scsi) = &self.scsi {
            let serial = scsi.trim_start_matches("scsi-");
            line("ID_SERIAL", serial);
            line("ID_SERIAL_SHORT", serial.get(1..).unwrap_or_default());
        }
        text
    }

    /// A number that the kernel keeps with a device, by which it is known to be this unit's: FNV-1a
    /// of the identity, 64 bits.
    #[must_use]
    pub fn fingerprint(identity: &str) -> u64 {
        let seed = 0xcbf2_9ce4_8422_2325;
        "fusion-mpt:"
            .bytes()
            .chain(identity.bytes())
            .fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
    }
}

#[derive(Debug, Default, Serialize, Deserialize)]
struct Contents {
    bus: String,
    devices: Vec<Entry>,
}

/// The file of one bus.
#[derive(Debug)]
pub struct State {
    path: PathBuf,
    contents: Contents,
    /// Locked for as long as this lives.
    _lock: File,
}

impl State {
    /// Takes the file of `bus` below `folder`, with what the last export left in it.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when another export has it, or the folder cannot be written.
    pub fn take(folder: &Path, bus: BusName) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(|error| Error::file("create", folder, &error))?;
        let lock_path = folder.join(format!("{bus}.lock"));
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|error| Error::file("create", &lock_path, &error))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| {
            Error::failed(format!(
                "{bus} is being exported already; end that `mptctl export` first, or choose another --bus"
            ))
        })?;
        let path = folder.join(format!("{bus}.json"));
        // What cannot be read is of no use: then nothing is recovered.
        let contents = fs::read(&path).ok().and_then(|text| serde_json::from_slice(&text).ok());
        let contents = Contents { bus: bus.to_string(), ..contents.unwrap_or_default() };
        Ok(Self { path, contents, _lock: lock })
    }

    /// Every device that is noted.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.contents.devices
    }

    /// Notes a device, or what it is now.
    ///
    /// # Errors
    ///
    /// [`Error::Failed`] when the file cannot be written.
    pub fn note(&mut self, entry: Entry) -> Result<(), Error> {
        self.contents.devices.retain(|other| other.device != entry.device);
        self.contents.devices.push(entry);
        self.write()
    }

    /// Forgets a device. The file goes with the last one.
    ///
    /// # Errors
    ///
    /// As [`State::note`].
    pub fn forget(&mut self, device: u32) -> Result<(), Error> {
        self.contents.devices.retain(|other| other.device != device);
        if self.contents.devices.is_empty() {
            return match fs::remove_file(&self.path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(Error::file("remove", &self.path, &error))
                }
                _ => Ok(()),
            };
        }
        self.write()
    }

    fn write(&self) -> Result<(), Error> {
        let failed = |error: &std::io::Error| Error::file("write", &self.path, error);
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(|error| failed(&error))?;
        let text = serde_json::to_string_pretty(&self.contents)
            .map_err(|error| Error::failed(format!("cannot write down the devices: {error}")))?;
        file.write_all(text.as_bytes()).map_err(|error| failed(&error))?;
        // udev's programs read it, whoever they run as.
        let mode = rustix::fs::Mode::from_raw_mode(0o644);
        rustix::fs::fchmod(file.as_file(), mode).map_err(|error| failed(&error.into()))?;
        file.persist(&self.path).map_err(|error| failed(&error.error))?;
        Ok(())
    }
}

/// The entry of a device by its name (`ublkb3`, with or without `/dev/`), whatever bus it is on.
///
/// # Errors
///
/// [`Error::Failed`] when it is none of ours.
pub fn find(folder: &Path, name: &str) -> Result<Entry, Error> {
    let number = name.rsplit('/').next().and_then(|name| name.strip_prefix("ublkb"));
    let Some(number) = number.and_then(|number| number.parse::<u32>().ok()) else {
        return Err(Error::usage(format!("{name:?} is no device of ublk, as ublkb0 is")));
    };
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let json = files.filter(|file| file.path().extension().is_some_and(|end| end == "json"));
    json.filter_map(|file| fs::read(file.path()).ok())
        .filter_map(|text| serde_json::from_slice::<Contents>(&text).ok())
        .flat_map(|contents| contents.devices)
        .find(|entry| entry.device == number)
        .ok_or_else(|| Error::failed(format!("ublkb{number} is not exported by mptctl")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus_name::MockChip;
    use crate::export::block::tests::unit;
    use crate::export::unit::Name;

    fn entry(device: u32) -> Entry {
        let name = Some(Name::Naa(vec![0x50, 0, 0xc5, 0, 1, 2, 3, 4]));
        let unit = Unit { name, vendor: "A B".into(), product: "C\"D".into(), ..unit(10) };
        Entry::new(device, &unit.identity().expect("a name"), &unit)
    }

    #[test]
    fn what_was_noted_is_found_by_the_next_one_and_by_udev() {
        let folder = tempfile::tempdir().expect("a folder");
        let bus = BusName::Mock(MockChip::Sas3008);
        let mut state = State::take(folder.path(), bus).expect("taken");
        state.note(entry(3)).expect("noted");
        state.note(entry(4)).expect("noted");
        let again = State::take(folder.path(), bus).expect_err("is taken").to_string();
        assert!(again.contains("exported already"), "{again}");
        assert_eq!(find(folder.path(), "/dev/ublkb3"), Ok(entry(3)));
        assert!(find(folder.path(), "ublkb5").is_err() && find(folder.path(), "sda").is_err());
        drop(state);
        let mut state = State::take(folder.path(), bus).expect("taken");
        assert_eq!(state.entries(), [entry(3), entry(4)]);
        state.forget(3).expect("forgotten");
        state.forget(4).expect("forgotten");
        state.forget(4).expect("nothing to forget");
        assert!(!folder.path().join("mock:sas3008.json").exists());
    }

    #[test]
    fn udev_is_told_without_anything_that_it_stumbles_over() {
        let text = entry(3).properties();
        assert!(text.contains("ID_WWN=0x5000c50001020304\n"), "{text}");
        assert!(text.contains("ID_SERIAL=35000c50001020304\n"), "{text}");
        assert!(text.contains("ID_VENDOR=A_B\nID_MODEL=C_D\n"), "{text}");
    }

    #[test]
    fn a_fingerprint_tells_one_unit_from_another() {
        let of = Entry::fingerprint;
        assert_eq!(of("a"), of("a"));
        assert_ne!(of("a"), of("b"));
        assert_ne!(of(""), 0);
    }

    #[test]
    fn a_file_of_nonsense_is_as_none() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("qtest.json"), "{\"devices\": 7").expect("written");
        let state = State::take(folder.path(), BusName::Qtest).expect("taken");
        assert!(state.entries().is_empty());
    }
}
