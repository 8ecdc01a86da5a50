//! `events`: what happens to a controller and behind it, as it comes.

use std::time::Duration;

use fusion_mpt_linux::error::Error;
use fusion_mpt_linux::events::{Follower, News};
use fusion_mpt_linux::host::Host;
use fusion_mpt_linux::interrupt;
use serde::Serialize;

use crate::cli::Global;
use crate::cli::health::Events;
use crate::{open, output};

/// How long to rest between looks, when nothing comes.
const REST: Duration = Duration::from_millis(2);

#[derive(Serialize)]
struct Seen {
    bus: String,
    events: Vec<News>,
}

/// Shows what was seen during bring-up, or follows what comes.
pub(crate) fn run(global: &Global, arguments: &Events) -> Result<(), Error> {
    if !arguments.follow {
        let seen = open(global, 0, |host| {
            Ok(Seen { bus: global.bus.to_string(), events: Follower::new().news(host) })
        })?;
        return output::print(global.json, "events", &seen, || {
            if seen.events.is_empty() {
                return format!("no events on {} during bring-up\n", global.bus);
            }
            seen.events.iter().map(|news| news.line() + "\n").collect()
        });
    }
    let limit = arguments.seconds.map(|seconds| Duration::from_secs(seconds.into()));
    open(global, 0, |host| follow(host, global.json, limit))
}

/// Prints news line by line until the time is over or the user has seen enough.
fn follow(host: &mut dyn Host, json: bool, limit: Option<Duration>) -> Result<(), Error> {
    let mut follower = Follower::new();
    let until = limit.map(|limit| host.now() + limit);
    loop {
        let polled = host.poll(&mut |_| {});
        for news in follower.news(host) {
            print(&news, json)?;
        }
        let over = until.is_some_and(|until| host.now() >= until);
        if over || interrupt::asked() || output::reader_is_gone() {
            return polled.map(|_| ());
        }
        if polled? == 0 {
            host.pause();
            std::thread::sleep(REST);
        }
    }
}

/// One line: text, or an object.
fn print(news: &News, json: bool) -> Result<(), Error> {
    let line = match json {
        true => serde_json::to_string(news)
            .map_err(|error| Error::failed(format!("cannot make JSON of an event: {error}")))?,
        false => news.line(),
    };
    output::raw(format!("{line}\n").as_bytes())
}
