//! What stock drivers say when a case gives them reason to: with a real card they would say it too.
//! Any other complaint fails the case, and so does one of the model about the driver.

use crate::guests::kernel_log::Allowed;

/// A disk that fails to read a block.
pub(super) const MEDIUM_ERROR: &[Allowed] = &[
    Allowed { text: "FAILED Result: hostbyte=DID_OK", reason: "sd prints each failed command" },
    Allowed { text: "Sense Key : Medium Error", reason: "the sense that the case made" },
    Allowed { text: "Add. Sense: Unrecovered read error", reason: "the sense that the case made" },
    Allowed { text: "critical medium error", reason: "the block layer's word for that sense" },
];

/// A command that is not answered.
pub(super) const ABORT: &[Allowed] = &[
    Allowed { text: "attempting task abort!", reason: "both drivers announce an abort" },
    Allowed { text: "task abort: SUCCESS", reason: "both drivers report it" },
];

/// Resets that a program asks for.
pub(super) const RESETS: &[Allowed] = &[
    Allowed { text: "attempting device reset!", reason: "mpt3sas announces a reset" },
    Allowed { text: "device reset: SUCCESS", reason: "mpt3sas reports it" },
    Allowed { text: "attempting lun reset!", reason: "mptsas announces a reset" },
    Allowed { text: "lun reset: SUCCESS", reason: "mptsas reports it" },
    Allowed { text: "attempting target reset!", reason: "both drivers announce a reset" },
    Allowed { text: "target reset: SUCCESS", reason: "both drivers report it" },
    Allowed { text: "attempting bus reset!", reason: "mptsas announces a reset" },
    Allowed { text: "bus reset: SUCCESS", reason: "mptsas reports it" },
    Allowed { text: "attempting host reset!", reason: "both drivers announce a reset" },
    Allowed { text: "host reset: SUCCESS", reason: "both drivers report it" },
];

/// What mpt3sas prints of every diagnostic reset that works.
pub(super) const DIAG_RESET: &[Allowed] = &[
    Allowed { text: "sending diag reset !!", reason: "it announces the reset" },
    Allowed { text: "diag reset: SUCCESS", reason: "it reports it" },
    Allowed { text: "mpt3sas_base_hard_reset_handler: SUCCESS", reason: "it reports it" },
    Allowed {
        text: "scan: ioc_status(0x0022), loginfo(0x00000000)",
        reason: "a walk through pages ends with an invalid one, as the headers have it",
    },
    Allowed {
        text: "break from pcie end device scan: ioc_status(0x0021), loginfo(0x00000000)",
        reason: "a chip without PCIe has no pages of that type, which 6.12 asks for",
    },
];

/// A controller in the state FAULT, whose code is that of the case.
pub(super) const FAULT: &[Allowed] = &[
    Allowed { text: "IOC is in FAULT state", reason: "mptsas reports the state" },
    Allowed { text: "FAULT code = 2622h", reason: "mptsas reports the code" },
    Allowed { text: "Issuing HardReset from mpt_fault_reset_work", reason: "how mptsas recovers" },
    Allowed { text: "mpt_fault_reset_work: HardReset: success", reason: "mptsas has recovered" },
    Allowed {
        text: "a request was posted in Fault(",
        reason: "the model's: a driver posts until it looks at the doorbell, once a second",
    },
    Allowed { text: "fault_state(0x2622)!", reason: "mpt3sas reports state and code" },
    Allowed { text: "fault info from func: mpt3sas_base_make_ioc_ready", reason: "and again" },
    Allowed { text: "_base_fault_reset_work: hard reset: success", reason: "it has recovered" },
];

/// A controller that has lost its power for a moment: it is READY and knows nothing any more, which
/// the driver's watchdog finds within a second, if the case lasts so long.
pub(super) const POWER_CUT: &[Allowed] = &[
    Allowed { text: "_base_fault_reset_work: hard reset: success", reason: "mpt3sas starts it" },
    Allowed {
        text: "a request was posted in Ready",
        reason: "the model's: a driver posts until it looks at the doorbell, once a second",
    },
];

/// A controller in the state COREDUMP, whose code is that of the case.
pub(super) const COREDUMP: &[Allowed] = &[
    Allowed { text: "coredump_state(0x2667)!", reason: "mpt3sas reports state and code" },
    Allowed { text: "coredump info from func:", reason: "and again" },
    Allowed {
        text: "a request was posted in CoreDump(",
        reason: "the model's: a driver posts until it looks at the doorbell, once a second",
    },
    Allowed {
        text: "a request was posted in Fault(",
        reason: "the model's: the dump may end before the driver looks",
    },
    Allowed { text: "_base_fault_reset_work: CoreDump ", reason: "it waits for the dump's end" },
    Allowed { text: "fault_state(0x2667)!", reason: "the dump ends in a fault" },
    Allowed { text: "fault info from func:", reason: "and again" },
    Allowed { text: "_base_fault_reset_work: hard reset: success", reason: "it has recovered" },
];

/// A card whose registers read as all ones.
pub(super) const YANKED: &[Allowed] = &[
    Allowed { text: "SAS host is non-operational !!!!", reason: "mpt3sas's watchdog has seen it" },
    Allowed { text: "IOC is non-operational !!!!", reason: "mptsas's watchdog has seen it" },
    Allowed {
        text: "Running mpt3sas_dead_ioc thread success !!!!",
        reason: "mpt3sas then removes the card",
    },
    Allowed {
        text: "mpt_fault_reset_work: Running mpt_dead_ioc thread success !",
        reason: "mptsas then removes the card",
    },
    Allowed { text: "fault info from func:", reason: "all ones read as a fault too" },
    Allowed { text: "fault_state(0x", reason: "all ones read as a fault too" },
    Allowed { text: "doorbell is in use", reason: "all ones read as a handshake too" },
    Allowed { text: "unexpected doorbell active!", reason: "all ones read as a handshake too" },
    Allowed { text: "sending diag reset !!", reason: "it is tried" },
    Allowed { text: "Invalid host diagnostic register value", reason: "it is all ones" },
    Allowed { text: "diag reset: FAILED", reason: "there is nobody to reset" },
    Allowed { text: "message unit reset: FAILED", reason: "there is nobody to reset" },
    Allowed { text: "sending message unit reset !!", reason: "it is tried" },
    Allowed { text: "Synchronize Cache(10) failed", reason: "the cache went with the card" },
];

/// What drivers say when they are unloaded, whatever the card.
pub(super) const UNLOADING: &[Allowed] = &[
    Allowed {
        text: "sending message unit reset !!",
        reason: "mpt3sas leaves the IOC in READY by one",
    },
    Allowed { text: "message unit reset: SUCCESS", reason: "and says that it has" },
    Allowed {
        text: "Synchronize Cache(10) failed: Result: hostbyte=DID_NO_CONNECT",
        reason: "for MPI 2.0 mpt3sas lets no command through once it is being removed",
    },
];

/// A disk that is pulled.
pub(super) const HOT_PLUG: &[Allowed] = &[Allowed {
    text: "Synchronize Cache(10) failed: Result: hostbyte=DID_NO_CONNECT",
    reason: "sd tries to flush a disk that is no longer there",
}];

/// A RAID volume that goes.
pub(super) const RAID: &[Allowed] = &[
    Allowed { text: "RAID REMOVE", reason: "raid_class says so of each volume, as an error" },
    Allowed {
        text: "IR shutdown (complete): ioc_status(0x0000), loginfo(0x00000000)",
        reason: "mpt3sas reports the success",
    },
];
