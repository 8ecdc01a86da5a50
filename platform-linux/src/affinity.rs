//! Which CPUs a thread runs on.

#[cfg(target_os = "linux")]
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::error::Error;

/// More CPUs than any machine has that this could run on.
const MOST_CPUS: usize = 1024;

/// The CPUs that this thread may run on, in rising order.
///
/// # Errors
///
/// [`Error::Failed`] when the system does not say.
#[cfg(target_os = "linux")]
pub fn allowed() -> Result<Vec<usize>, Error> {
    let set = sched_getaffinity(None).map_err(|error| {
        Error::failed(format!(
            "cannot ask which CPUs this process may run on: {error}; run without pinning"
        ))
    })?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

/// Lets this thread run on `cpu` only.
///
/// # Errors
///
/// [`Error::Usage`] when it may not run there.
#[cfg(target_os = "linux")]
pub fn pin(cpu: usize) -> Result<(), Error> {
    let allowed = allowed()?;
    if !allowed.contains(&cpu) {
        let names: Vec<String> = allowed.iter().map(ToString::to_string).collect();
        return Err(Error::usage(format!(
            "this process may not run on CPU {cpu}, only on {}; choose one of these",
            names.join(", ")
        )));
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).map_err(|error| {
        Error::failed(format!("cannot pin a thread to CPU {cpu}: {error}; run without pinning"))
    })
}

/// Lets this thread run on `cpu` only.
///
/// # Errors
///
/// [`Error::Usage`]: this system has no way to.
#[cfg(not(target_os = "linux"))]
pub fn pin(_cpu: usize) -> Result<(), Error> {
    Err(Error::usage("threads can be pinned on Linux only; leave --pin out"))
}

/// Which CPU each thread is to run on; none for wherever the system likes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pinning {
    cpus: Vec<usize>,
}

impl Pinning {
    /// Pins this thread, the one with that number, if threads are to be pinned. Where there are more
    /// threads than CPUs, they share in turn.
    ///
    /// # Errors
    ///
    /// As [`pin`].
    pub fn pin(&self, thread: usize) -> Result<(), Error> {
        let place = thread.checked_rem(self.cpus.len());
        place.and_then(|place| self.cpus.get(place)).map_or(Ok(()), |cpu| pin(*cpu))
    }
}

impl std::str::FromStr for Pinning {
    type Err = String;

    /// Takes `0,2,4-7`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let number = |text: &str| text.parse().ok().filter(|cpu: &usize| *cpu < MOST_CPUS);
            match (number(first), number(last)) {
                (Some(first), Some(last)) if first <= last => cpus.extend(first..=last),
                _ => return Err(format!("{part:?} is no CPU; write them as 0,2,4-7")),
            }
        }
        Ok(Self { cpus })
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_pinned_thread_may_run_on_its_cpu_only() {
        let before = allowed().unwrap();
        let cpu = *before.last().expect("there is a CPU");
        std::thread::spawn(move || {
            pin(cpu).unwrap();
            assert_eq!(allowed().unwrap(), [cpu]);
        })
        .join()
        .unwrap();
        assert_eq!(allowed().unwrap(), before);
    }

    #[test]
    fn a_cpu_that_is_not_there_is_refused_with_those_that_are() {
        let Err(Error::Usage(sentence)) = pin(CpuSet::MAX_CPU) else { panic!("taken") };
        assert!(sentence.contains("only on"), "{sentence}");
    }

    #[test]
    fn lists_of_cpus_are_read_and_nonsense_is_refused() {
        let cpus = |text: &str| text.parse::<Pinning>().map(|pinning| pinning.cpus);
        assert_eq!(cpus("0,2,4-6"), Ok(vec![0, 2, 4, 5, 6]));
        for text in ["", "x", "3-1", "1,", "0-99999999", "-1"] {
            assert!(cpus(text).is_err(), "{text}");
        }
        assert!(Pinning::default().pin(7).is_ok());
    }
}
