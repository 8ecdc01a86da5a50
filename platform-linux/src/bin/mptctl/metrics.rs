//! `metrics`: what a controller has done, for Prometheus.

use std::time::Duration;

use fusion_mpt_linux::error::Error;
use fusion_mpt_linux::host::{Buffer, Host};
use fusion_mpt_linux::interrupt;
use fusion_mpt_linux::metrics::{self, Endpoint, Metrics as Collected, Sensors};
use serde::Serialize;

use crate::cli::Global;
use crate::cli::health::Metrics;
use crate::{open, output};

/// Between looks, if not said.
const INTERVAL: Duration = Duration::from_secs(15);
/// How long to rest between polls, when nothing comes.
const REST: Duration = Duration::from_millis(2);

#[derive(Serialize)]
struct Told {
    metrics: Collected,
}

#[derive(Serialize)]
struct Listening {
    listening: String,
}

/// Tells once, or goes on telling.
pub(crate) fn run(global: &Global, arguments: &Metrics) -> Result<(), Error> {
    let endpoint = arguments.listen.as_ref().map(Endpoint::listen).transpose()?;
    if let Some(endpoint) = &endpoint {
        let address = endpoint.address();
        let listening = Listening { listening: address.to_string() };
        output::print(global.json, "metrics", &listening, || match address {
            metrics::ListenAddress::Tcp(_) => format!("metrics at http://{address}/metrics\n"),
            metrics::ListenAddress::Unix(_) => format!("metrics at {address}, GET /metrics\n"),
        })?;
    }
    let tell = |collected: Collected| match (&endpoint, &arguments.out) {
        (Some(endpoint), _) => {
            endpoint.publish(metrics::render(&collected));
            Ok(())
        }
        (None, Some(path)) => metrics::write_file(path, &metrics::render(&collected)),
        (None, None) => {
            let told = Told { metrics: collected };
            output::print(global.json, "metrics", &told, || metrics::render(&told.metrics))
        }
    };
    let seconds = |seconds: u32| Duration::from_secs(seconds.into());
    let goes_on = endpoint.is_some() || arguments.interval.is_some() || arguments.seconds.is_some();
    open(global, 0, |host| {
        let buffer = host.allocate(4096)?;
        tell(look(host, &buffer)?)?;
        if !goes_on {
            return Ok(());
        }
        let interval = arguments.interval.map_or(INTERVAL, seconds);
        follow(host, &buffer, interval, arguments.seconds.map(seconds), &tell)
    })
}

fn look(host: &mut dyn Host, buffer: &Buffer) -> Result<Collected, Error> {
    let sensors = Sensors::ask(host, buffer)?;
    Ok(Collected { sensors, ..metrics::collect(host) })
}

/// Tells every `interval`, until the time is over or the user has seen enough. A controller that is
/// lost is told of once more.
fn follow(
    host: &mut dyn Host,
    buffer: &Buffer,
    interval: Duration,
    limit: Option<Duration>,
    tell: &dyn Fn(Collected) -> Result<(), Error>,
) -> Result<(), Error> {
    let started = host.now();
    let mut next = started + interval;
    while !interrupt::asked() && limit.is_none_or(|limit| host.now() < started + limit) {
        let looked = match host.poll(&mut |_| {}) {
            Ok(_) if host.now() >= next => look(host, buffer).map(Some),
            Ok(0) => {
                host.pause();
                std::thread::sleep(REST);
                Ok(None)
            }
            Ok(_) => Ok(None),
            Err(error) => Err(error),
        };
        match looked {
            Ok(None) => {}
            Ok(Some(collected)) => {
                tell(collected)?;
                next = host.now() + interval;
            }
            Err(Error::Interrupted) => break,
            Err(error) => {
                tell(metrics::collect(host))?;
                return Err(error);
            }
        }
    }
    Ok(())
}
