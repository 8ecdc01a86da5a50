//! What happened, as a table: faults, and what the driver did about them.

use std::time::Duration;

use fusion_mpt_linux::recovery::Happening;
use fusion_mpt_mock::faults::FaultEvent;
use serde::Serialize;

use super::books::Books;
use crate::table::Table;

/// One row: a fault, or something that the driver did; several of a kind in a row are one.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    /// Milliseconds from the first command on.
    pub(crate) at_ms: f64,
    /// The fault's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fault: Option<&'static str>,
    /// What the driver did, in one word.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) driver: Option<&'static str>,
    /// The same in words.
    pub(crate) words: String,
    /// How many times in a row.
    pub(crate) times: u64,
    /// Of a fault: milliseconds until every command that was under way had been done; nothing when
    /// the controller did not come back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) recovered_after_ms: Option<f64>,
}

fn milliseconds(time: Duration) -> f64 {
    // Microseconds are as fine as anybody reads.
    time.as_micros() as f64 / 1e3
}

/// Puts faults and happenings in their order. `survived` is whether the controller lives.
pub(crate) fn tell(
    faults: &[FaultEvent],
    happenings: &[Happening],
    books: &Books,
    start: Duration,
    survived: bool,
) -> Vec<Row> {
    let faults = faults.iter().map(|event| {
        let at = Duration::from_nanos(event.ns);
        let row = Row {
            at_ms: milliseconds(at.saturating_sub(start)),
            fault: Some(event.fault),
            driver: None,
            words: event.what.clone(),
            times: 1,
            recovered_after_ms: survived.then(|| milliseconds(books.recovered_after(at))),
        };
        (at, row)
    });
    let happenings = happenings.iter().map(|happened| {
        let row = Row {
            at_ms: milliseconds(happened.at.saturating_sub(start)),
            fault: None,
            driver: Some(happened.what.name()),
            words: happened.what.to_string(),
            times: 1,
            recovered_after_ms: None,
        };
        (happened.at, row)
    });
    let mut rows: Vec<(Duration, Row)> = faults.chain(happenings).collect();
    // Stable: of the same moment, the fault stands first.
    rows.sort_by_key(|(at, _)| *at);
    let mut told: Vec<Row> = Vec::new();
    for (_, row) in rows {
        // The last row, or one of the same moment, may be of its kind.
        let same =
            told.iter().rposition(|other| other.fault == row.fault && other.driver == row.driver);
        let same = same.filter(|index| {
            let after = told.get(index + 1..).unwrap_or_default();
            after.iter().all(|other| other.at_ms == row.at_ms)
        });
        match same.and_then(|index| told.get_mut(index)) {
            Some(other) => {
                other.times += 1;
                // Of several, what the longest recovery was.
                if row.recovered_after_ms > other.recovered_after_ms {
                    other.recovered_after_ms = row.recovered_after_ms;
                }
            }
            None => told.push(row),
        }
    }
    told
}

/// The table for people.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut table = Table::new(&["time, ms", "recovered after, ms", "fault", "what happened"]);
    for row in rows {
        let more = match row.times {
            1 => String::new(),
            times => format!(" ({times} times)"),
        };
        let what = format!("{}{more}", row.words);
        table.row([
            format!("{:.3}", row.at_ms),
            row.recovered_after_ms.map_or_else(String::new, |ms| format!("{ms:.3}")),
            row.fault.unwrap_or("  driver").to_owned(),
            what,
        ]);
    }
    table.text()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fusion_mpt_linux::recovery::What;
    use fusion_mpt_mock::faults::Counts;

    fn fault(ms: u64, fault: &'static str) -> FaultEvent {
        FaultEvent { ns: ms * 1_000_000, counts: Counts::default(), fault, what: "lost".into() }
    }

    #[test]
    fn faults_and_what_was_done_stand_in_their_order_and_rows_of_a_kind_are_one() {
        let mut books = Books::default();
        books.done(Duration::from_millis(10), Duration::from_millis(900));
        let faults = [fault(20, "drop-reply"), fault(30, "drop-reply"), fault(800, "all-ones")];
        let done = [What::Late, What::Abort]
            .map(|what| Happening { at: Duration::from_millis(500), what });
        let rows = tell(&faults, &done, &books, Duration::from_millis(10), true);
        let kinds: Vec<_> =
            rows.iter().map(|row| (row.fault.or(row.driver).expect("one"), row.times)).collect();
        assert_eq!(kinds, [("drop-reply", 2), ("late", 1), ("abort-task", 1), ("all-ones", 1)]);
        assert_eq!(rows[0].at_ms, 10.0);
        assert_eq!(rows[0].recovered_after_ms, Some(880.0));
        let text = table(&rows);
        assert!(text.contains("(2 times)") && text.contains("  driver "), "{text}");
        let gone = tell(&faults, &done, &books, Duration::ZERO, false);
        assert!(gone.iter().all(|row| row.recovered_after_ms.is_none()));
    }
}
