//! What is out and what came back: each command once, with its own data and its own sense.

use std::collections::BTreeMap;

use fusion_mpt::io_queue::Completion;
use fusion_mpt::outcome::{Failure, Outcome};
use fusion_mpt::scsi::{Cdb, ScsiStatus, Sense, SenseKey};
use fusion_mpt::sgl::Direction;

use super::buffers::Buffers;
use super::content::{BLOCK, Promise, Shadow, block};

/// What a command is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ask {
    Read {
        lba: u64,
        blocks: u32,
    },
    Write {
        lba: u64,
        blocks: u32,
    },
    /// A read of a block that has a defect: its sense names the block.
    Defect {
        lba: u64,
    },
    Flush,
    Ready,
}

impl Ask {
    pub fn cdb(self) -> Cdb {
        match self {
            Ask::Read { lba, blocks } => Cdb::read(lba, blocks),
            Ask::Write { lba, blocks } => Cdb::write(lba, blocks),
            Ask::Defect { lba } => Cdb::read(lba, 1),
            Ask::Flush => Cdb::synchronize_cache_10(0, 0),
            Ask::Ready => Cdb::test_unit_ready(),
        }
    }

    pub fn direction(self) -> Direction {
        match self {
            Ask::Read { .. } | Ask::Defect { .. } => Direction::Read,
            Ask::Write { .. } => Direction::Write,
            Ask::Flush | Ask::Ready => Direction::None,
        }
    }

    pub fn bytes(self) -> usize {
        match self {
            Ask::Read { blocks, .. } | Ask::Write { blocks, .. } => blocks as usize * BLOCK,
            Ask::Defect { .. } => BLOCK,
            Ask::Flush | Ask::Ready => 0,
        }
    }
}

/// How a command ended, as far as a platform tells ends apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It did what was asked; of a [`Ask::Defect`], it told of the defect.
    Good,
    /// The disk reports an event, or is busy: try again.
    NotNow(ScsiStatus),
    /// Less was moved than was asked for.
    Short,
    /// The disk reports an error that is not the one asked for.
    Sense(SenseKey),
    Failed(Failure),
}

/// One command's way.
#[derive(Debug, Clone)]
pub struct Out {
    pub target: u16,
    pub ask: Ask,
    pub submitted_ms: u64,
    /// For a platform's own use: how often it was sent before.
    pub tries: u32,
    buffer: Option<usize>,
    version: u32,
    promise: Option<Promise>,
}

/// A command that ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    pub target: u16,
    pub ask: Ask,
    pub tries: u32,
    pub submitted_ms: u64,
    pub end: End,
}

/// How far a controller's word goes. Nobody can know what the wire cannot tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// It means what it says.
    All,
    /// It may make up sense data.
    NotSense,
    /// It may say that a command is done that is not: only that each ends once is known.
    Nothing,
}

/// Everything that the platform wrote down.
#[derive(Debug)]
pub struct Books {
    pub out: BTreeMap<u64, Out>,
    pub shadow: Shadow,
    pub buffers: Buffers,
    /// What came back since somebody last looked.
    pub ended: Vec<Ended>,
    /// Ends that were as asked.
    pub good: u64,
    /// What can be checked at all.
    pub trust: Trust,
    next: u64,
}

impl Books {
    pub fn new(buffers: Buffers) -> Self {
        Self {
            out: BTreeMap::new(),
            shadow: Shadow::default(),
            buffers,
            ended: Vec::new(),
            good: 0,
            trust: Trust::All,
            // No small number: those are what a confused controller makes up.
            next: 0x00c0_0c1e_0000_0001,
        }
    }

    /// Writes down a command that is about to be sent; its cookie.
    pub fn begin(&mut self, target: u16, ask: Ask, tries: u32, now_ms: u64) -> u64 {
        let mut version = 0;
        let buffer = match ask {
            Ask::Write { lba, blocks } => {
                version = self.shadow.begin_write(target, lba, blocks);
                let data: Vec<u8> = (lba..lba + u64::from(blocks))
                    .flat_map(|lba| block(target, lba, version))
                    .collect();
                Some(self.buffers.take(Some(&data)))
            }
            Ask::Read { .. } | Ask::Defect { .. } => Some(self.buffers.take(None)),
            Ask::Flush | Ask::Ready => None,
        };
        let promise = (ask == Ask::Flush).then(|| self.shadow.begin_flush(target));
        let cookie = self.next;
        self.next += 1;
        let out = Out { target, ask, submitted_ms: now_ms, tries, buffer, version, promise };
        self.out.insert(cookie, out);
        cookie
    }

    /// The segments of a command that was written down.
    pub fn segments(&self, cookie: u64) -> Vec<fusion_mpt::sgl::Segment> {
        let out = &self.out[&cookie];
        out.buffer.map(|index| self.buffers.segment(index, out.ask.bytes())).into_iter().collect()
    }

    /// The command was refused: it never was.
    pub fn strike(&mut self, cookie: u64) {
        let out = self.out.remove(&cookie).expect("just written down");
        if let Ask::Write { lba, blocks } = out.ask {
            self.shadow.refuse_write(out.target, lba, blocks, out.version);
        }
        if let Some(index) = out.buffer {
            self.buffers.put_back(index);
        }
    }

    /// Takes a completion.
    #[track_caller]
    pub fn note(&mut self, completion: &Completion<'_>) {
        let cookie = completion.cookie;
        let out = self.out.remove(&cookie);
        let Some(out) = out else {
            panic!("command {cookie:#x} was not out, or completed twice: {:?}", completion.outcome)
        };
        let Out { target, ask, tries, submitted_ms, .. } = out;
        let data = out.buffer.map(|index| self.buffers.retire(index, ask.bytes()));
        let end = match completion.outcome {
            Outcome::Failed(failure) => End::Failed(failure),
            Outcome::Complete { status: ScsiStatus::GOOD, transferred, .. } => {
                if transferred as usize == ask.bytes() {
                    self.good_end(&out, data.as_deref());
                    End::Good
                } else {
                    End::Short
                }
            }
            Outcome::Complete { status: ScsiStatus::CHECK_CONDITION, .. } => {
                self.sense(target, ask, completion.sense)
            }
            Outcome::Complete { status, .. } => End::NotNow(status),
        };
        self.good += u64::from(end == End::Good);
        self.ended.push(Ended { target, ask, tries, submitted_ms, end });
    }

    #[track_caller]
    fn good_end(&mut self, out: &Out, data: Option<&[u8]>) {
        let target = out.target;
        let believed = self.trust != Trust::Nothing && self.shadow.knows(target);
        match (out.ask, data) {
            (Ask::Read { lba, .. }, Some(data)) if believed => {
                for (lba, bytes) in (lba..).zip(data.chunks_exact(BLOCK)) {
                    let right = self.shadow.compare(target, lba, bytes);
                    right.unwrap_or_else(|wrong| panic!("a good read: {wrong}"));
                }
            }
            (Ask::Write { lba, blocks }, _) if believed => {
                self.shadow.end_write(target, lba, blocks, out.version);
            }
            (Ask::Defect { lba }, _) => {
                assert!(!believed, "the defect at {lba} was read without an error");
            }
            (Ask::Flush, _) if believed => {
                self.shadow.end_flush(out.promise.as_ref().expect("made when it was sent"));
            }
            _ => {}
        }
    }

    #[track_caller]
    fn sense(&self, target: u16, ask: Ask, bytes: &[u8]) -> End {
        let believed = self.trust == Trust::All;
        let Some(sense) = Sense::parse(bytes) else {
            assert!(!believed, "{ask:?} of disk {target}: no sense data: {bytes:x?}");
            return End::Short;
        };
        match (sense.key, ask) {
            (SenseKey::UNIT_ATTENTION, _) => End::NotNow(ScsiStatus::CHECK_CONDITION),
            (SenseKey::MEDIUM_ERROR, Ask::Defect { lba }) if sense.information == Some(lba) => {
                End::Good
            }
            (SenseKey::MEDIUM_ERROR, _) => {
                assert!(!believed, "{ask:?} of disk {target} ended with another's sense: {sense}");
                End::Sense(sense.key)
            }
            (key, _) => End::Sense(key),
        }
    }

    /// The driver was killed, and the controller has been reset: nothing that was out comes back.
    pub fn abandon(&mut self) {
        for (_, out) in std::mem::take(&mut self.out) {
            if let Some(index) = out.buffer {
                self.buffers.retire(index, 0);
            }
        }
    }

    /// Nothing is out.
    #[track_caller]
    pub fn assert_nothing_out(&self) {
        assert!(self.out.is_empty(), "{} never completed: {:?}", self.out.len(), self.out);
    }
}
