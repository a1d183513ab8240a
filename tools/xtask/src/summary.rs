//! Adds up what test runners report.

use std::fmt;
use std::ops::AddAssign;

/// Tests by outcome, over every runner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub num_passed: usize,
    pub num_failed: usize,
    pub num_skipped: usize,
}

impl Summary {
    /// Sums the closing lines found in `output`: those of nextest, and of libtest and its likes.
    pub fn parse(output: &str) -> Self {
        let mut total = Self::default();
        for line in output.lines() {
            let line = strip_ansi(line);
            if let Some(counts) = nextest_counts(&line).or_else(|| libtest_counts(&line)) {
                total += Self::from_counts(counts);
            }
        }
        total
    }

    /// Reads "12 passed, 1 timed out"; words that are not outcomes ("measured") count nowhere.
    fn from_counts(counts: &str) -> Self {
        let mut summary = Self::default();
        for item in without_parentheses(counts).split([',', ';']) {
            let Some((count, outcome)) = item.trim().split_once(' ') else { continue };
            let Ok(count) = count.parse::<usize>() else { continue };
            match outcome.trim() {
                "passed" => summary.num_passed += count,
                "failed" | "exec failed" | "timed out" => summary.num_failed += count,
                "ignored" | "skipped" => summary.num_skipped += count,
                _ => {}
            }
        }
        summary
    }
}

impl AddAssign for Summary {
    fn add_assign(&mut self, other: Self) {
        self.num_passed += other.num_passed;
        self.num_failed += other.num_failed;
        self.num_skipped += other.num_skipped;
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { num_passed, num_failed, num_skipped } = self;
        write!(f, "{num_passed} passed, {num_failed} failed, {num_skipped} skipped")
    }
}

/// `     Summary [   0.5s] 12 tests run: 12 passed (1 slow), 3 skipped`
fn nextest_counts(line: &str) -> Option<&str> {
    let (_, rest) = line.trim_start().strip_prefix("Summary [")?.split_once(']')?;
    rest.split_once(" run:").map(|(_, counts)| counts)
}

/// `test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.05s`
fn libtest_counts(line: &str) -> Option<&str> {
    line.trim_start().strip_prefix("test result: ")?.split_once(". ").map(|(_, counts)| counts)
}

fn without_parentheses(text: &str) -> String {
    let mut depth = 0usize;
    text.chars()
        .filter(|&c| {
            depth += usize::from(c == '(');
            let is_outside = depth == 0;
            depth -= usize::from(c == ')' && depth > 0);
            is_outside
        })
        .collect()
}

/// Drops colour sequences (`ESC [ … letter`).
fn strip_ansi(line: &str) -> String {
    let mut pieces = line.split("\x1b[");
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |text, piece| {
        let end = piece.find(|c: char| c.is_ascii_alphabetic()).map_or(piece.len(), |at| at + 1);
        text + &piece[end..]
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(num_passed: usize, num_failed: usize, num_skipped: usize) -> Summary {
        Summary { num_passed, num_failed, num_skipped }
    }

    #[test]
    fn nextest_lines_are_read_with_their_remarks() {
        let line = "     Summary [  12.3s] 40 tests run: 38 passed (2 slow, 1 leaky), 1 failed, \
                    1 timed out, 3 skipped";
        assert_eq!(Summary::parse(line), summary(38, 2, 3));
        let cancelled = "     Summary [   0.0s] 5/10 tests run: 4 passed, 1 exec failed, 0 skipped";
        assert_eq!(Summary::parse(cancelled), summary(4, 1, 0));
        assert_eq!(
            Summary::parse("Summary [ 0.0s] 1 test run: 1 passed, 0 skipped"),
            summary(1, 0, 0)
        );
    }

    #[test]
    fn coloured_nextest_lines_are_read() {
        let line = "\x1b[32;1m     Summary\x1b[0m [   0.012s] \x1b[1m2\x1b[0m tests run: \
                    \x1b[1m2\x1b[0m \x1b[32;1mpassed\x1b[0m, \x1b[1m0\x1b[0m \x1b[33;1mskipped\x1b[0m";
        assert_eq!(Summary::parse(line), summary(2, 0, 0));
    }

    #[test]
    fn libtest_lines_add_up() {
        let output = "\nrunning 3 tests\ntest a ... ok\n\
            test result: ok. 2 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.1s\n\
            test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.1s\n";
        assert_eq!(Summary::parse(output), summary(6, 2, 1));
    }

    #[test]
    fn output_without_a_closing_line_counts_no_test() {
        let output = "error: could not compile `moekit`\n3 passed by without a runner\n";
        assert_eq!(Summary::parse(output), Summary::default());
    }

    #[test]
    fn the_summary_reads_as_one_plain_line() {
        assert_eq!(summary(12, 1, 2).to_string(), "12 passed, 1 failed, 2 skipped");
    }
}
