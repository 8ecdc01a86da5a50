//! LOG SENSE and the log pages (SPC-4 6.8 and 7.3, SBC-3 6.4).

use super::Target;
use super::data::Task;
use super::operations::Operation;
use super::sense::SenseData;

/// Every page there is, in the order in which the first one lists them.
const PAGES: [u8; 10] = [0x00, 0x02, 0x03, 0x05, 0x06, 0x0D, 0x0E, 0x10, SOLID_STATE, 0x2F];
/// The solid state media page, which a disk that rotates does not have.
const SOLID_STATE: u8 = 0x11;
/// The subpage that lists pages together with subpages.
const ALL_SUBPAGES: u8 = 0xFF;
/// Control byte of a parameter: a counter, in binary.
const COUNTER: u8 = 0x02;
/// Control byte of a parameter: a list in binary, which is no counter.
const BINARY_LIST: u8 = 0x03;

/// What the error counter pages report.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) written: Counter,
    pub(super) read: Counter,
    pub(super) verified: Counter,
}

/// The counters of one kind of access.
#[derive(Debug, Default)]
pub(super) struct Counter {
    pub(super) bytes: u64,
    pub(super) errors: u64,
}

impl Counter {
    pub(super) fn add(&mut self, bytes: u64) {
        self.bytes = self.bytes.wrapping_add(bytes);
    }

    pub(super) fn fail(&mut self) {
        self.errors = self.errors.wrapping_add(1);
    }

    /// The seven parameters of an error counter page (SPC-4 7.3.6): nothing is ever corrected, so
    /// only the bytes (5) and the uncorrected errors (6) count.
    fn parameters(&self) -> Vec<Parameter> {
        (0..=6)
            .map(|code| {
                let value = match code {
                    5 => self.bytes,
                    6 => self.errors,
                    _ => 0,
                };
                Parameter::new(code, COUNTER, &value.to_be_bytes())
            })
            .collect()
    }
}

/// One log parameter.
struct Parameter {
    code: u16,
    control: u8,
    value: Vec<u8>,
}

impl Parameter {
    fn new(code: u16, control: u8, value: &[u8]) -> Parameter {
        Parameter { code, control, value: value.to_vec() }
    }
}

pub(super) fn log_sense(
    target: &mut Target,
    task: &mut Task<'_>,
    operation: &Operation,
) -> Result<(), SenseData> {
    let page = task.byte(2) & 0x3F;
    if !target.log_pages().any(|known| known == page) {
        return Err(SenseData::invalid_field(2, Some(5)));
    }
    let subpage = task.byte(3);
    if !matches!((page, subpage), (_, 0) | (0, ALL_SUBPAGES)) {
        return Err(SenseData::invalid_field(3, None));
    }
    let first = u16::from_be_bytes([task.byte(5), task.byte(6)]);
    let mut data = vec![page, 0, 0, 0];
    if page == 0x00 {
        if first != 0 {
            return Err(SenseData::invalid_field(5, None));
        }
        if subpage == ALL_SUBPAGES {
            // SPF; after the pages this list itself.
            data[..2].copy_from_slice(&[0x40, ALL_SUBPAGES]);
            data.extend(target.log_pages().flat_map(|page| match page {
                0x00 => vec![0x00, 0x00, 0x00, ALL_SUBPAGES],
                page => vec![page, 0x00],
            }));
        } else {
            data.extend(target.log_pages());
        }
    } else {
        let mut parameters = target.log_parameters(page);
        parameters.retain(|parameter| parameter.code >= first);
        if parameters.is_empty() {
            // The parameter pointer is past the last parameter.
            return Err(SenseData::invalid_field(5, None));
        }
        for parameter in parameters {
            data.extend_from_slice(&parameter.code.to_be_bytes());
            data.extend_from_slice(&[parameter.control, parameter.value.len() as u8]);
            data.extend_from_slice(&parameter.value);
        }
    }
    let length = data.len() as u16 - 4;
    data[2..4].copy_from_slice(&length.to_be_bytes());
    task.reply(&data, operation.length(task.cdb))
}

/// LOG SELECT (SPC-4 6.7): PCR takes all counters back to zero; no list of parameters is taken.
pub(super) fn log_select(
    target: &mut Target,
    task: &mut Task<'_>,
    operation: &Operation,
) -> Result<(), SenseData> {
    if operation.length(task.cdb) != 0 {
        return Err(SenseData::invalid_field(7, None));
    }
    let reset = task.byte(1) & 0x02 != 0;
    if reset {
        target.counters = Counters::default();
    }
    Ok(())
}

impl Target {
    fn log_pages(&self) -> impl Iterator<Item = u8> {
        let solid = self.config.rotation_rate == 1;
        PAGES.into_iter().filter(move |page| *page != SOLID_STATE || solid)
    }

    fn log_parameters(&self, page: u8) -> Vec<Parameter> {
        let temperature = self.config.temperature;
        match page {
            0x02 => self.counters.written.parameters(),
            0x03 => self.counters.read.parameters(),
            0x05 => self.counters.verified.parameters(),
            // Non-medium errors.
            0x06 => vec![Parameter::new(0, COUNTER, &[0; 4])],
            // Temperature, and the reference temperature, which FFh says is not known.
            0x0D => vec![
                Parameter::new(0, BINARY_LIST, &[0, temperature]),
                Parameter::new(1, BINARY_LIST, &[0, 0xFF]),
            ],
            // Start-stop cycles: how many there were.
            0x0E => vec![Parameter::new(4, BINARY_LIST, &self.start_stop_cycles.to_be_bytes())],
            // Self-test results: twenty, the newest first, zeros for those that were not run.
            0x10 => (1..)
                .zip(self.self_test_results())
                .map(|(code, result)| Parameter::new(code, BINARY_LIST, &result))
                .collect(),
            // Percentage used endurance: nothing is worn.
            SOLID_STATE => vec![Parameter::new(1, BINARY_LIST, &[0; 4])],
            // Informational exceptions: one that is predicted, or none; the temperature, and its
            // threshold as not known.
            _ => {
                let (asc, ascq) =
                    self.exception().map_or((0, 0), |exception| (exception.asc, exception.ascq));
                vec![Parameter::new(0, BINARY_LIST, &[asc, ascq, temperature, 0xFF])]
            }
        }
    }
}
