//! Which CPUs a thread runs on.

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::error::Error;

/// The CPUs that this thread may run on, in rising order.
///
/// # Errors
///
/// [`Error::Failed`] when the system does not say.
pub fn allowed() -> Result<Vec<usize>, Error> {
    let set = sched_getaffinity(None).map_err(|error| {
        Error::failed(format!("cannot ask which CPUs this process may run on: {error}; run without pinning"))
    })?;
    Ok((0..CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect())
}

/// Lets this thread run on `cpu` only.
///
/// # Errors
///
/// [`Error::Usage`] when it may not run there.
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

#[cfg(test)]
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
}
