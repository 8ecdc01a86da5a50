//! What Rust's test harness prints, read back as single cases.

use crate::report::Outcome;

/// One run of a test program.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Run {
    /// The cases that reported, in the order in which they did.
    pub(crate) cases: Vec<(String, Outcome)>,
    /// How many the harness said it would run.
    pub(crate) announced: usize,
}

/// Reads the human output of libtest or of rustdoc's tests.
pub(crate) fn parse(output: &str) -> Run {
    let mut run = Run::default();
    for line in output.lines() {
        if let Some(count) = announced(line) {
            run.announced += count;
        } else if let Some((name, verdict)) = verdict(line) {
            run.cases.push((name.to_owned(), verdict));
        }
    }
    for (name, outcome) in &mut run.cases {
        if let (Outcome::Failed(text), Some(captured)) = (outcome, captured(output, name)) {
            *text = captured;
        }
    }
    run
}

/// The names in the answer to `--list --format terse`.
pub(crate) fn parse_list(output: &str) -> Vec<String> {
    output.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

/// "running 12 tests"
fn announced(line: &str) -> Option<usize> {
    let rest = line.strip_prefix("running ")?;
    rest.strip_suffix(" tests").or_else(|| rest.strip_suffix(" test"))?.parse().ok()
}

/// "test wire::ioc::tests::a_name ... ok", or FAILED, or ignored with or without a reason.
fn verdict(line: &str) -> Option<(&str, Outcome)> {
    let (name, verdict) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    let name = name.strip_suffix(" - should panic").unwrap_or(name);
    let verdict = match verdict.trim_end() {
        "ok" => Outcome::Passed,
        "FAILED" => Outcome::Failed(String::new()),
        "ignored" => Outcome::Skipped("ignored".to_owned()),
        other => match other.strip_prefix("ignored, ") {
            Some(reason) => Outcome::Skipped(reason.to_owned()),
            None => return None,
        },
    };
    Some((name, verdict))
}

/// What the harness captured from a failed case: the lines under "---- NAME stdout ----".
fn captured(output: &str, name: &str) -> Option<String> {
    let head = format!("---- {name} stdout ----\n");
    let from = output.find(&head)? + head.len();
    let rest = output.get(from..)?;
    let end = ["\n---- ", "\nfailures:\n", "\ntest result: "]
        .iter()
        .filter_map(|mark| rest.find(mark))
        .min()
        .unwrap_or(rest.len());
    Some(rest.get(..end)?.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "
running 4 tests
test mem::tests::a_word_reads_back ... ok
test slots::tests::slow ... ignored, needs an hour
test mem::tests::outside_reads_as_ones ... FAILED
test mem::tests::panics - should panic ... ok

failures:

---- mem::tests::outside_reads_as_ones stdout ----

thread 'mem::tests::outside_reads_as_ones' panicked at core/src/mem.rs:9:9:
assertion failed
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace


failures:
    mem::tests::outside_reads_as_ones

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.00s
";

    #[test]
    fn each_case_is_read_with_its_verdict() {
        let run = parse(OUTPUT);
        assert_eq!(run.announced, 4);
        let names: Vec<_> = run.cases.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(
            names,
            [
                "mem::tests::a_word_reads_back",
                "slots::tests::slow",
                "mem::tests::outside_reads_as_ones",
                "mem::tests::panics"
            ]
        );
        assert_eq!(run.cases[0].1, Outcome::Passed);
        assert_eq!(run.cases[1].1, Outcome::Skipped("needs an hour".to_owned()));
        assert_eq!(run.cases[3].1, Outcome::Passed);
    }

    #[test]
    fn a_failure_brings_what_it_printed_and_nothing_else() {
        let run = parse(OUTPUT);
        let Outcome::Failed(text) = &run.cases[2].1 else { panic!("it failed") };
        assert!(text.contains("assertion failed"));
        assert!(!text.contains("test result"));
        assert!(!text.contains("failures:"));
    }

    #[test]
    fn documentation_tests_are_cases_too() {
        let run = parse(
            "\nrunning 2 tests\n\
             test core/src/lib.rs - (line 4) ... ok\n\
             test core/src/regs.rs - regs::Reg (line 9) - compile fail ... ok\n\n\
             test result: ok. 2 passed\n\n\
             running 1 test\ntest core/src/mem.rs - mem (line 1) ... ignored\n",
        );
        assert_eq!(run.announced, 3);
        assert_eq!(run.cases.len(), 3);
        assert_eq!(run.cases[1].0, "core/src/regs.rs - regs::Reg (line 9) - compile fail");
        assert_eq!(run.cases[2].1, Outcome::Skipped("ignored".to_owned()));
    }

    #[test]
    fn a_program_that_dies_has_announced_more_than_it_reports() {
        let run = parse("running 3 tests\ntest a ... ok\n");
        assert_eq!((run.announced, run.cases.len()), (3, 1));
    }

    #[test]
    fn a_name_may_hold_the_separator() {
        let run = parse("running 1 test\ntest src/lib.rs - a ... b (line 1) ... ok\n");
        assert_eq!(run.cases[0].0, "src/lib.rs - a ... b (line 1)");
    }

    #[test]
    fn chatter_is_no_case() {
        assert_eq!(parse("test of the disk ... pending\nrunning late\n"), Run::default());
    }

    #[test]
    fn a_list_gives_names() {
        assert_eq!(parse_list("a::b: test\nc: benchmark\n\n1 test, 1 benchmark\n"), ["a::b"]);
    }
}
