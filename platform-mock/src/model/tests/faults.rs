//! Each fault, seen from a host that does everything by hand.

mod machine;
mod replies;
mod runs;
mod tasks;

use super::knobs::ALL_KEYS;
use super::*;
use crate::faults::{Fault, Plan, When};

/// An MPI1 chip, one with MPI descriptors, and one with a ring for each vector.
const CHIPS: [Chip; 3] = [Chip::SAS1068, Chip::SAS2008, Chip::SAS3816];

impl Host {
    /// An operational IOC with two disks that were met, and then this fault.
    fn with_fault(chip: Chip, fault: Fault, when: When) -> Self {
        Self::with_plan(chip, &Plan::of(1, fault, when))
    }

    fn with_plan(chip: Chip, plan: &Plan) -> Self {
        let mut host = Self::operational(chip, 2);
        host.greet(host.disk(0));
        host.greet(host.disk(1));
        host.bus.set_faults(plan);
        host
    }

    /// What the faults did, without times.
    fn done(&self) -> Vec<String> {
        self.bus.fault_log().into_iter().map(|event| event.what).collect()
    }

    /// Posts a command that ends with a reply frame: for nobody.
    fn ask_nobody(&self, smid: u16) {
        self.ask(smid, if self.mpi1() { 8 } else { 0x77 });
    }

    /// Sets the reset bit of the diagnostic register.
    fn ask_for_reset(&self) {
        for key in ALL_KEYS {
            self.registers.write32(4, key);
        }
        self.registers.write32(8, 0x84);
    }

    /// What the doorbell reads as.
    fn doorbell(&self) -> u32 {
        self.registers.read32(0)
    }

    /// Makes an IOC in READY operational again.
    fn init_again(&mut self) {
        self.next = [0; 32];
        self.taken = 0;
        if self.mpi1() {
            self.give_frames(8);
            assert_eq!(le16(&self.init_mpi1(), 0x0e), 0);
        } else {
            assert_eq!(le16(&self.init_mpi2(1, false), 0x0e), 0);
            self.give_frames(8);
        }
        assert_eq!(self.state(), State::Operational);
    }

    /// Gives back what was taken: room in the reply queue, and reply frames.
    fn give_back(&mut self) {
        if self.mpi1() {
            self.give_frames(8);
            return;
        }
        for index in 0..DEPTH {
            let low = (self.at(REPLIES + index * 128) as u32).to_le_bytes();
            self.memory.write(FREE + index * 4, &low);
        }
        self.registers.write32(0x48, (self.taken + 15) % DEPTH as u32);
        let supplemental = self.bus.with_model(|model| model.chip().supplemental());
        let register = if supplemental { 0x30c } else { 0x6c };
        self.registers.write32(register, self.next[0] as u32);
    }

    /// Enables the port, so that the IOC tells of devices.
    fn enable_port(&mut self) {
        self.handshake(&[0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0]);
    }
}
