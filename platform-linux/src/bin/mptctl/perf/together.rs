//! The load on several queues at once, each in a thread of its own.

use std::sync::atomic::{AtomicBool, Ordering};

use fusion_mpt_linux::affinity::Pinning;
use fusion_mpt_linux::disk::Disk;
use fusion_mpt_linux::error::Error;
use fusion_mpt_linux::host::{FurtherQueue, Host};

use super::load::{self, Limit, Load, Measured};

/// Runs the load on the first queue in this thread and on each further one in its own; a count is
/// shared out between them.
pub(crate) fn run(
    host: &mut dyn Host,
    further: Vec<FurtherQueue<'_>>,
    disk: &Disk,
    load: &Load,
    pinning: &Pinning,
    tell: &mut dyn FnMut(u64, f64),
) -> Result<Measured, Error> {
    let queues = further.len() as u64 + 1;
    let share = |index: u64| {
        let limit = match load.limit {
            Limit::Count(count) => Limit::Count(count / queues + u64::from(index < count % queues)),
            time => time,
        };
        // Each visits blocks in an order of its own.
        Load { limit, seed: load.seed.wrapping_add(index), ..*load }
    };
    let mut prepared = Vec::new();
    for (index, queue) in (1..).zip(further) {
        prepared.push((index, queue, load::buffer(host, disk, load)?));
    }
    let own = load::buffer(host, disk, load)?;
    let stop = AtomicBool::new(false);
    let ended = |result: Result<Measured, Error>| {
        if result.is_err() {
            stop.store(true, Ordering::Relaxed);
        }
        result
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = prepared
            .into_iter()
            .map(|(index, mut queue, buffer)| {
                let (share, ended, stop) = (&share, &ended, &stop);
                scope.spawn(move || {
                    ended(pinning.pin(index as usize).and_then(|()| {
                        load::run(&mut *queue, disk, &share(index), &buffer, stop, &mut |_, _| {})
                    }))
                })
            })
            .collect();
        let mut total = ended(
            pinning.pin(0).and_then(|()| load::run(host, disk, &share(0), &own, &stop, tell)),
        );
        // The first queue's thread also resets the controller, which the others may wait for.
        while !threads.iter().all(|thread| thread.is_finished()) {
            match host.poll(&mut |_| {}) {
                Ok(0) => host.pause(),
                Ok(_) => {}
                Err(error) => {
                    total = total.and(ended(Err(error)));
                    break;
                }
            }
        }
        for thread in threads {
            let measured = thread
                .join()
                .unwrap_or_else(|_| Err(Error::failed("a queue's thread has failed; try again")));
            total = total.and_then(|mut total| {
                total.add(&measured?);
                Ok(total)
            });
        }
        total
    })
}
