//! A machine for tests: sysfs, procfs and /dev in a temporary folder, and a kernel that binds drivers
//! as Linux does when these files are written.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::address::PciAddress;
use super::system::{Kernel, System, link_name};

/// How the kernel of a [`Machine`] behaves, and what was asked of it.
#[derive(Debug, Default)]
pub(crate) struct Behaviour {
    /// The driver that the kernel itself would choose, by device.
    pub(crate) native: BTreeMap<String, String>,
    /// Drivers that a module brings.
    pub(crate) modules: BTreeMap<String, String>,
    /// Drivers whose probe fails.
    pub(crate) failing: BTreeSet<String>,
    /// Ends of paths that may not be written.
    pub(crate) denied: BTreeSet<String>,
    /// Nodes that somebody has claimed.
    pub(crate) claimed: BTreeSet<String>,
    /// Nodes that somebody claims once it was seen that nobody has.
    pub(crate) claimed_next: BTreeSet<String>,
    /// Disks that cannot be flushed.
    pub(crate) unflushable: BTreeSet<String>,
    /// Whether this user may do what root may.
    pub(crate) not_root: bool,
    /// Folders of processes that end while udev settles.
    pub(crate) ends_on_settle: Vec<PathBuf>,
    /// Everything that was asked, in order.
    pub(crate) log: Vec<String>,
}

#[derive(Debug)]
struct FakeKernel {
    root: PathBuf,
    behaviour: Mutex<Behaviour>,
}

/// A machine in a temporary folder.
#[derive(Debug)]
pub(crate) struct Machine {
    folder: tempfile::TempDir,
    kernel: Arc<FakeKernel>,
}

/// A disk of a [`Machine`]: the folder below the controller that it is in.
const DISK: &str = "host0/target0:0:0/0:0:0:0/block";

impl Machine {
    /// A machine without any device.
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().to_owned();
        let kernel = Arc::new(FakeKernel { root, behaviour: Mutex::default() });
        let machine = Self { folder, kernel };
        machine.file("sys/bus/pci/drivers_probe", "");
        machine.file("proc/self/mountinfo", "");
        machine
    }

    pub(crate) fn system(&self) -> System {
        System::fake(self.folder.path(), self.kernel.clone())
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Writes a file with the folders above it.
    pub(crate) fn file(&self, path: &str, text: &str) {
        write_file(&self.path(path), text);
    }

    /// Makes a symbolic link to another path of the machine, which need not be there yet.
    pub(crate) fn link(&self, path: &str, target: &str) {
        link(&self.path(path), &self.path(target));
    }

    /// Changes how the kernel behaves.
    pub(crate) fn kernel<T>(&self, change: impl FnOnce(&mut Behaviour) -> T) -> T {
        change(&mut self.kernel.behaviour())
    }

    /// Adds a driver of the kernel.
    pub(crate) fn driver(&self, name: &str) {
        add_driver(self.folder.path(), name);
    }

    /// Adds a PCI device that `driver` has by the kernel's own choice.
    pub(crate) fn device(&self, address: &str, device: u16, driver: Option<&str>) {
        let folder = real(address);
        for (name, text) in [
            ("vendor", "0x1000\n".to_owned()),
            ("device", format!("{device:#06x}\n")),
            ("subsystem_vendor", "0x1028\n".into()),
            ("subsystem_device", "0x1f1c\n".into()),
            ("class", "0x010700\n".into()),
            ("revision", "0x03\n".into()),
            ("irq", "11\n".into()),
            ("numa_node", "-1\n".into()),
            ("modalias", format!("pci:v00001000d{device:08X}\n")),
            ("driver_override", "(null)\n".into()),
            (
                "resource",
                "0x000000000000e000 0x000000000000e0ff 0x0000000000040101\n\
                 0x00000000fea00000 0x00000000fea0ffff 0x0000000000140204\n\
                 0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
                    .into(),
            ),
        ] {
            self.file(&format!("{folder}/{name}"), &text);
        }
        self.link(&format!("sys/bus/pci/devices/{address}"), &folder);
        if let Some(driver) = driver {
            self.driver(driver);
            self.kernel(|kernel| kernel.native.insert(address.into(), driver.into()));
            take(self.folder.path(), address, driver);
        }
    }

    /// Puts devices into an IOMMU group that translates.
    pub(crate) fn group(&self, number: u32, addresses: &[&str]) {
        let group = format!("sys/kernel/iommu_groups/{number}");
        self.file(&format!("{group}/type"), "DMA\n");
        for address in addresses {
            self.link(&format!("{group}/devices/{address}"), &real(address));
            self.link(&format!("{}/iommu_group", real(address)), &group);
        }
    }

    /// Puts a disk behind a device, of 1 GiB.
    pub(crate) fn disk(&self, address: &str, name: &str, number: &str) {
        let folder = format!("{}/{DISK}/{name}", real(address));
        self.block(&folder, name, number);
        self.file(&format!("{folder}/device/vendor"), "SEAGATE \n");
        self.file(&format!("{folder}/device/model"), "ST1000NM0001    \n");
        self.link("sys/class/scsi_host/host0", &format!("{}/host0/scsi_host/host0", real(address)));
        fs::create_dir_all(self.path(&format!("{}/host0/scsi_host/host0", real(address))))
            .expect("a folder");
    }

    /// Adds a partition to a disk that is there.
    pub(crate) fn partition(&self, address: &str, disk: &str, name: &str, number: &str) {
        let folder = format!("{}/{DISK}/{disk}/{name}", real(address));
        self.file(&format!("{folder}/partition"), "1\n");
        self.file(&format!("{folder}/dev"), number);
        self.link(&format!("sys/class/block/{name}"), &folder);
    }

    /// Adds a block device without hardware, such as `dm-0`, on another one.
    pub(crate) fn stacked(&self, name: &str, number: &str, on: &str) {
        let folder = format!("sys/devices/virtual/block/{name}");
        if !self.path(&folder).exists() {
            self.block(&folder, name, number);
        }
        self.link(&format!("sys/class/block/{on}/holders/{name}"), &folder);
    }

    /// Adds a block device in this folder.
    pub(crate) fn block(&self, folder: &str, name: &str, number: &str) {
        self.file(&format!("{folder}/dev"), number);
        self.file(&format!("{folder}/size"), "2097152\n");
        self.link(&format!("sys/block/{name}"), folder);
        self.link(&format!("sys/class/block/{name}"), folder);
        self.file(&format!("dev/{name}"), "");
    }

    /// Adds a line to mountinfo: a file system of this number and source on a mount point.
    pub(crate) fn mount(&self, number: &str, source: &str, point: &str) {
        let path = self.path("proc/self/mountinfo");
        let before = fs::read_to_string(&path).expect("mountinfo");
        let line = format!("40 1 {number} / {point} rw,relatime shared:1 - ext4 {source} rw\n");
        fs::write(path, before + &line).expect("written");
    }

    /// Adds a process that has nodes below /dev open.
    pub(crate) fn process(&self, pid: u32, name: &str, nodes: &[&str]) {
        self.file(&format!("proc/{pid}/comm"), &format!("{name}\n"));
        fs::create_dir_all(self.path(&format!("proc/{pid}/fd"))).expect("a folder");
        for (number, node) in nodes.iter().enumerate() {
            let target = PathBuf::from(format!("/dev/{node}"));
            link(&self.path(&format!("proc/{pid}/fd/{number}")), &target);
        }
    }

    /// The driver that has a device.
    pub(crate) fn driver_of(&self, address: &str) -> Option<String> {
        self.system().driver(address.parse().expect("an address"))
    }

    /// What is in `driver_override`.
    pub(crate) fn override_of(&self, address: &str) -> String {
        let path = self.path(&format!("{}/driver_override", real(address)));
        fs::read_to_string(path).expect("driver_override").trim_end().to_owned()
    }
}

fn real(address: &str) -> String {
    format!("sys/devices/pci0000:00/{address}")
}

fn write_file(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
    fs::write(path, text).expect("a file");
}

fn link(path: &Path, target: &Path) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
    let _ = fs::remove_file(path);
    symlink(target, path).expect("a link");
}

fn add_driver(root: &Path, name: &str) {
    let folder = root.join("sys/bus/pci/drivers").join(name);
    write_file(&folder.join("bind"), "");
    write_file(&folder.join("unbind"), "");
}

/// A driver takes a device and makes the nodes that it makes.
fn take(root: &Path, address: &str, driver: &str) {
    let device = root.join(real(address));
    link(&device.join("driver"), &root.join("sys/bus/pci/drivers").join(driver));
    if driver == "uio_pci_generic" {
        write_file(&device.join("uio/uio0/name"), driver);
        write_file(&root.join("dev/uio0"), "");
    }
    if let (true, Some(group)) = (driver == "vfio-pci", link_name(&device.join("iommu_group"))) {
        write_file(&root.join("dev/vfio/vfio"), "");
        write_file(&root.join("dev/vfio").join(group), "");
    }
}

impl FakeKernel {
    fn behaviour(&self) -> std::sync::MutexGuard<'_, Behaviour> {
        self.behaviour.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Binds as `device_attach` does: the override alone, or else the kernel's own choice.
    fn attach(&self, address: &str, only: Option<&str>) -> io::Result<()> {
        let address: PciAddress = address.parse().map_err(|_| ErrorKind::InvalidInput)?;
        let address = address.to_string();
        let behaviour = self.behaviour();
        let device = self.root.join(real(&address));
        let set_apart = fs::read_to_string(device.join("driver_override"))?;
        let native = behaviour.native.get(&address).map(String::as_str);
        let chosen = match set_apart.trim() {
            "(null)" => native,
            driver => Some(driver),
        };
        let Some(driver) = chosen.filter(|driver| only.is_none_or(|only| only == *driver)) else {
            return only.map_or(Ok(()), |_| Err(ErrorKind::NotFound.into()));
        };
        let loaded = self.root.join("sys/bus/pci/drivers").join(driver).exists();
        if loaded && !behaviour.failing.contains(driver) {
            take(&self.root, &address, driver);
        }
        Ok(())
    }
}

impl Kernel for FakeKernel {
    fn write(&self, path: &Path, text: &str) -> io::Result<()> {
        let short = path.strip_prefix(&self.root).expect("below the root").display().to_string();
        {
            let mut behaviour = self.behaviour();
            behaviour.log.push(format!("{} > {}", text.trim(), short));
            if behaviour.not_root || behaviour.denied.iter().any(|end| short.ends_with(end)) {
                return Err(ErrorKind::PermissionDenied.into());
            }
        }
        if !path.exists() {
            return Err(ErrorKind::NotFound.into());
        }
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        match name {
            "driver_override" if text.trim().is_empty() => fs::write(path, "(null)\n"),
            "driver_override" => fs::write(path, format!("{text}\n")),
            "unbind" => {
                let device = self.root.join(real(text));
                // A UIO device goes with its driver; the nodes of VFIO's groups too.
                let _ = fs::remove_dir_all(device.join("uio"));
                fs::remove_file(device.join("driver")).map_err(|_| ErrorKind::NotFound.into())
            }
            "drivers_probe" => self.attach(text, None),
            "bind" => self.attach(text, link_name_of_parent(path).as_deref()),
            _ => Err(io::Error::other(format!("nobody should write {short}"))),
        }
    }

    fn load_module(&self, name: &str) -> io::Result<()> {
        let mut behaviour = self.behaviour();
        behaviour.log.push(format!("modprobe {name}"));
        match behaviour.modules.get(name) {
            Some(driver) => {
                add_driver(&self.root, driver);
                Ok(())
            }
            None => Err(io::Error::other(format!("FATAL: Module {name} not found"))),
        }
    }

    fn claim(&self, node: &Path) -> io::Result<Option<fs::File>> {
        let mut behaviour = self.behaviour();
        if behaviour.not_root {
            return Err(ErrorKind::PermissionDenied.into());
        }
        let name = node.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if behaviour.claimed.contains(name) {
            return Ok(None);
        }
        if behaviour.claimed_next.remove(name) {
            behaviour.claimed.insert(name.into());
        }
        fs::File::open(node).map(Some)
    }

    fn flush(&self, node: &Path) -> io::Result<()> {
        let mut behaviour = self.behaviour();
        let name = node.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        behaviour.log.push(format!("flush {name}"));
        if behaviour.not_root {
            return Err(ErrorKind::PermissionDenied.into());
        }
        if behaviour.unflushable.contains(&name) {
            return Err(io::Error::other("Input/output error"));
        }
        Ok(())
    }

    fn settle(&self) {
        let mut behaviour = self.behaviour();
        behaviour.log.push("settle".into());
        for folder in std::mem::take(&mut behaviour.ends_on_settle) {
            fs::remove_dir_all(folder).expect("a process");
        }
    }

    fn change_owner(&self, node: &Path, user: Option<u32>, group: Option<u32>) -> io::Result<()> {
        let mut behaviour = self.behaviour();
        let short = node.strip_prefix(&self.root).expect("below the root").display().to_string();
        behaviour.log.push(format!("chown {user:?}:{group:?} {short}"));
        if behaviour.denied.contains(&short) || !node.exists() {
            return Err(ErrorKind::PermissionDenied.into());
        }
        Ok(())
    }

    fn accessible(&self, node: &Path) -> bool {
        node.exists() && !self.behaviour().not_root
    }
}

fn link_name_of_parent(path: &Path) -> Option<String> {
    Some(path.parent()?.file_name()?.to_str()?.to_owned())
}
