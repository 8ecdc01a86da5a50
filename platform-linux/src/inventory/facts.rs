//! IOC facts, field by field, under the names that the vendor's headers give them.

use fusion_mpt::wire::ioc::{ProductId, mpi1, mpi2};
use fusion_mpt::wire::read_padded;
use serde::Serialize;

use crate::host::BringUp;

/// One field of the IOC facts reply.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fact {
    /// Its name in the vendor's header.
    pub name: &'static str,
    /// What the IOC says.
    pub value: String,
}

/// All that the IOC answered when it was brought up.
pub(super) fn of(bring_up: &BringUp) -> Vec<Fact> {
    let facts = &bring_up.facts;
    if facts.message_version >> 8 == 1 {
        mpi1(&read_padded(&bring_up.facts_reply), bring_up.port_facts.protocol_flags)
    } else {
        mpi2(&read_padded(&bring_up.facts_reply))
    }
}

fn fact(name: &'static str, value: impl ToString) -> Fact {
    Fact { name, value: value.to_string() }
}

fn version(word: u16) -> String {
    let [major, minor] = word.to_be_bytes();
    format!("{major}.{minor}")
}

/// Bits as a number, and by name where they have one.
fn bits(number: u32, names: &[&'static str]) -> String {
    match names.is_empty() {
        true => format!("{number:#x}"),
        false => format!("{number:#x} ({})", names.join(", ")),
    }
}

fn product(id: u16) -> String {
    format!("{id:#06x} ({})", ProductId(id).family_name())
}

/// The names of the flags that are set, as words.
macro_rules! flag_names {
    ($flags:expr, $($flag:expr => $name:literal),* $(,)?) => {{
        let flags = $flags;
        let mut names: Vec<&'static str> = Vec::new();
        $( if flags.contains($flag) { names.push($name); } )*
        names
    }};
}

/// What an MPI 1.x controller can do.
pub(super) fn capabilities_of_mpi1(bits: u32) -> Vec<&'static str> {
    use mpi1::Capabilities as Can;
    flag_names!(Can::from_bits_retain(bits),
        Can::HIGH_PRIORITY_QUEUE => "high priority queue",
        Can::REPLY_HOST_SIGNAL => "reply host signal",
        Can::QUEUE_FULL_HANDLING => "queue full handling",
        Can::DIAG_TRACE_BUFFER => "diagnostic trace buffer",
        Can::SNAPSHOT_BUFFER => "snapshot buffer",
        Can::EXTENDED_BUFFER => "extended buffer",
        Can::EEDP => "end-to-end data protection",
        Can::BIDIRECTIONAL => "bidirectional",
        Can::MULTICAST => "multicast",
        Can::SCSI_IO_32 => "SCSI IO 32",
        Can::NO_SCSI_IO_16 => "no SCSI IO 16",
        Can::TLR => "transport layer retries",
    )
}

/// What an MPI 2.x controller can do.
pub(super) fn capabilities_of_mpi2(bits: u32) -> Vec<&'static str> {
    use mpi2::Capabilities as Can;
    flag_names!(Can::from_bits_retain(bits),
        Can::TASK_SET_FULL_HANDLING => "task set full handling",
        Can::DIAG_TRACE_BUFFER => "diagnostic trace buffer",
        Can::SNAPSHOT_BUFFER => "snapshot buffer",
        Can::EXTENDED_BUFFER => "extended buffer",
        Can::EEDP => "end-to-end data protection",
        Can::BIDIRECTIONAL_TARGET => "bidirectional target",
        Can::MULTICAST => "multicast",
        Can::TLR => "transport layer retries",
        Can::INTEGRATED_RAID => "integrated RAID",
        Can::EVENT_REPLAY => "event replay",
        Can::RAID_ACCELERATOR => "RAID accelerator",
        Can::MSI_X_INDEX => "MSI-X index",
        Can::HOST_BASED_DISCOVERY => "host based discovery",
        Can::FAST_PATH => "fast path",
        Can::RDPQ_ARRAY => "reply queue array",
        Can::ATOMIC_REQUEST => "atomic request descriptors",
        Can::PCIE_SRIOV => "SR-IOV",
        Can::COREDUMP => "core dump",
    )
}

/// What is wrong with an MPI 1.x board.
pub(super) fn exceptions_of_mpi1(bits: u16) -> Vec<&'static str> {
    use mpi1::Exceptions as Wrong;
    flag_names!(Wrong::from_bits_retain(bits),
        Wrong::CONFIG_CHECKSUM => "configuration checksum wrong",
        Wrong::RAID_CONFIG_INVALID => "RAID configuration invalid",
        Wrong::FIRMWARE_CHECKSUM => "firmware checksum wrong",
        Wrong::PERSISTENT_TABLE_FULL => "persistent table full",
    )
}

/// What is wrong with an MPI 2.x board.
pub(super) fn exceptions_of_mpi2(bits: u16) -> Vec<&'static str> {
    use mpi2::Exceptions as Wrong;
    flag_names!(Wrong::from_bits_retain(bits),
        Wrong::CONFIG_CHECKSUM => "configuration checksum wrong",
        Wrong::RAID_CONFIG_INVALID => "RAID configuration invalid",
        Wrong::FIRMWARE_CHECKSUM => "firmware checksum wrong",
        Wrong::MANUFACTURING_CHECKSUM => "manufacturing checksum wrong",
        Wrong::METADATA_UNSUPPORTED => "RAID metadata unsupported",
        Wrong::FOREIGN_CONFIG_MAX => "too many foreign RAID configurations",
        Wrong::PARTIAL_MEMORY_FAILURE => "partial memory failure",
        Wrong::PCIE_DISABLED => "NVMe side disabled",
    )
}

/// What a port of an MPI 1.x controller speaks.
pub(super) fn protocols_of_mpi1(bits: u16) -> Vec<&'static str> {
    use mpi1::ProtocolFlags as Speaks;
    flag_names!(Speaks::from_bits_retain(bits),
        Speaks::INITIATOR => "initiator",
        Speaks::TARGET => "target",
        Speaks::LAN => "LAN",
        Speaks::LOGICAL_BUS_ADDRESS => "logical bus addresses",
    )
}

/// What an MPI 2.x controller speaks.
pub(super) fn protocols_of_mpi2(bits: u16) -> Vec<&'static str> {
    use mpi2::ProtocolFlags as Speaks;
    flag_names!(Speaks::from_bits_retain(bits),
        Speaks::SCSI_INITIATOR => "initiator",
        Speaks::SCSI_TARGET => "target",
        Speaks::NVME_DEVICES => "NVMe devices",
    )
}

fn mpi1(facts: &mpi1::IocFactsReply, protocols: u16) -> Vec<Fact> {
    let exceptions = facts.ioc_exceptions.get();
    let capabilities = facts.ioc_capabilities.get();
    vec![
        fact("MsgVersion", version(facts.msg_version.get())),
        fact("HeaderVersion", version(facts.header_version.get())),
        fact("IOCNumber", facts.ioc_number),
        fact("IOCExceptions", bits(exceptions.into(), &exceptions_of_mpi1(exceptions))),
        fact("MaxChainDepth", facts.max_chain_depth),
        fact("WhoInit", facts.who_init.name()),
        fact("BlockSize", facts.block_size),
        fact("Flags", format!("{:#04x}", facts.flags)),
        fact("ReplyQueueDepth", facts.reply_queue_depth.get()),
        fact("RequestFrameSize", facts.request_frame_size.get()),
        fact("ProductID", product(facts.product_id.get())),
        fact("CurrentHostMfaHighAddr", format!("{:#010x}", facts.current_host_mfa_high.get())),
        fact("GlobalCredits", facts.global_credits.get()),
        fact("NumberOfPorts", facts.number_of_ports),
        fact("EventState", facts.event_state),
        fact(
            "CurrentSenseBufferHighAddr",
            format!("{:#010x}", facts.current_sense_buffer_high.get()),
        ),
        fact("CurReplyFrameSize", facts.current_reply_frame_size.get()),
        fact("MaxDevices", facts.max_devices),
        fact("MaxBuses", facts.max_buses),
        fact("FWImageSize", facts.firmware_image_size.get()),
        fact("IOCCapabilities", bits(capabilities, &capabilities_of_mpi1(capabilities))),
        fact("FWVersion", facts.firmware_version),
        fact("HighPriorityQueueDepth", facts.high_priority_queue_depth.get()),
        fact("ProtocolFlags (port 0)", bits(protocols.into(), &protocols_of_mpi1(protocols))),
    ]
}

fn mpi2(facts: &mpi2::IocFactsReply) -> Vec<Fact> {
    let exceptions = facts.ioc_exceptions.get();
    let capabilities = facts.ioc_capabilities.get();
    let protocols = facts.protocol_flags.get();
    vec![
        fact("MsgVersion", version(facts.msg_version.get())),
        fact("HeaderVersion", format!("{:#06x}", facts.header_version.get())),
        fact("IOCNumber", facts.ioc_number),
        fact("IOCExceptions", bits(exceptions.into(), &exceptions_of_mpi2(exceptions))),
        fact("MaxChainDepth", facts.max_chain_depth),
        fact("WhoInit", facts.who_init.name()),
        fact("NumberOfPorts", facts.number_of_ports),
        fact("MaxMSIxVectors", facts.max_msix_vectors),
        fact("RequestCredit", facts.request_credit.get()),
        fact("ProductID", product(facts.product_id.get())),
        fact("IOCCapabilities", bits(capabilities, &capabilities_of_mpi2(capabilities))),
        fact("FWVersion", facts.firmware_version),
        fact("IOCRequestFrameSize", facts.ioc_request_frame_size.get()),
        fact("IOCMaxChainSegmentSize", facts.ioc_max_chain_segment_size.get()),
        fact("MaxInitiators", facts.max_initiators.get()),
        fact("MaxTargets", facts.max_targets.get()),
        fact("MaxSasExpanders", facts.max_sas_expanders.get()),
        fact("MaxEnclosures", facts.max_enclosures.get()),
        fact("ProtocolFlags", bits(protocols.into(), &protocols_of_mpi2(protocols))),
        fact("HighPriorityCredit", facts.high_priority_credit.get()),
        fact("MaxReplyDescriptorPostQueueDepth", facts.max_reply_descriptor_post_queue_depth.get()),
        fact("ReplyFrameSize", facts.reply_frame_size),
        fact("MaxVolumes", facts.max_volumes),
        fact("MaxDevHandle", facts.max_dev_handle.get()),
        fact("MaxPersistentEntries", facts.max_persistent_entries.get()),
        fact("MinDevHandle", facts.min_dev_handle.get()),
        fact("CurrentHostPageSize", facts.current_host_page_size),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_are_told_as_a_number_and_by_name() {
        assert_eq!(bits(0x2000, &capabilities_of_mpi2(0x2000)), "0x2000 (event replay)");
        assert_eq!(bits(0, &[]), "0x0");
        assert_eq!(capabilities_of_mpi1(0x801), ["high priority queue", "transport layer retries"]);
    }

    #[test]
    fn facts_of_zeros_are_told_as_such() {
        assert_eq!(
            mpi1(&read_padded(&[]), 8).last().map(|fact| fact.value.clone()),
            Some("0x8 (initiator)".into())
        );
        assert!(
            mpi2(&read_padded(&[]))
                .iter()
                .any(|fact| fact.name == "RequestCredit" && fact.value == "0")
        );
    }
}
