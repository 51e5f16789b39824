//! How far a job is: a bar on a terminal, plain lines elsewhere, on standard error.

use std::{
    io::{IsTerminal as _, stderr},
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Deserialize;

use super::{human, output::say};
use crate::clock::now_micros;

/// How often a line is printed where there is no terminal, unless the phase changes.
const LINE_INTERVAL: Duration = Duration::from_secs(30);

/// What `DescribeJob` says about a job, as far as this program uses it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(crate) struct JobView {
    pub(crate) number: u64,
    pub(crate) phase: String,
    pub(crate) bytes_done: u64,
    pub(crate) bytes_total: u64,
    pub(crate) rate: u64,
    pub(crate) expected_end_time: u64,
    pub(crate) result: Option<String>,
    pub(crate) error: Option<JobFailure>,
    pub(crate) backup: String,
    pub(crate) source: String,
    #[serde(rename = "type")]
    pub(crate) job_type: String,
    pub(crate) start_time: u64,
    pub(crate) end_time: u64,
    pub(crate) statistics: serde_json::Map<String, serde_json::Value>,
}

/// Why a job failed.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
pub(crate) struct JobFailure {
    pub(crate) name: String,
    pub(crate) message: String,
}

impl JobView {
    /// Whether it has ended.
    pub(crate) fn is_over(&self) -> bool {
        self.result.as_deref().is_some_and(|result| !result.is_empty())
    }

    /// `queued`, `running`, or how it ended.
    pub(crate) fn state(&self) -> &str {
        state(self.result.as_deref().unwrap_or_default(), &self.phase)
    }

    /// `1.2G of 3.4G, 120.0M/s, 18s left`, as far as it is known; empty when nothing moves.
    pub(crate) fn figures(&self, now: u64) -> String {
        let mut parts = Vec::new();
        match (self.bytes_done, self.bytes_total) {
            (0, 0) => {}
            (done, total) if total >= done && total > 0 => {
                parts.push(format!("{} of {}", human::size(done), human::size(total)));
            }
            (done, _) => parts.push(human::size(done)),
        }
        if self.rate > 0 {
            parts.push(format!("{}/s", human::size(self.rate)));
        }
        if self.expected_end_time > now {
            parts.push(format!("{} left", human::duration((self.expected_end_time - now).max(1_000_000))));
        }
        parts.join(", ")
    }
}

/// `queued`, `running`, or how a job ended.
pub(crate) fn state<'w>(result: &'w str, phase: &str) -> &'w str {
    match (result, phase) {
        ("", "queued") => "queued",
        ("", _) => "running",
        (result, _) => result,
    }
}

/// Shows one job.
pub(crate) enum Progress {
    /// On a terminal.
    Bar(ProgressBar),
    /// Elsewhere.
    Lines {
        /// What the line begins with.
        title: String,
        /// The phase that was printed last.
        phase: String,
        /// When a line was printed last.
        printed: Instant,
    },
    /// Nothing is shown.
    Quiet,
}

impl Progress {
    pub(crate) fn new(title: String, quiet: bool) -> Self {
        if quiet {
            return Self::Quiet;
        }
        if !stderr().is_terminal() {
            return Self::Lines { title, phase: String::new(), printed: Instant::now() };
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        bar.set_prefix(title);
        bar.set_style(style("{spinner} {prefix}: {msg}"));
        Self::Bar(bar)
    }

    /// How often it is worth asking the daemon.
    pub(crate) fn interval(&self) -> Duration {
        match self {
            Self::Bar(_) => Duration::from_millis(250),
            Self::Lines { .. } => Duration::from_secs(1),
            // Only to notice a daemon that went away without a word.
            Self::Quiet => Duration::from_secs(5),
        }
    }

    pub(crate) fn update(&mut self, job: &JobView) {
        let figures = job.figures(now_micros());
        let separator = if figures.is_empty() { "" } else { ", " };
        match self {
            Self::Bar(bar) => {
                if job.bytes_total > 0 && bar.length().is_none() {
                    bar.set_style(style("{prefix} [{wide_bar}] {percent}% {msg}").progress_chars("=> "));
                }
                if job.bytes_total > 0 {
                    bar.set_length(job.bytes_total.max(job.bytes_done));
                }
                bar.set_position(job.bytes_done);
                bar.set_message(format!("{}{separator}{figures}", job.phase));
                bar.tick();
            }
            Self::Lines { title, phase, printed } => {
                if *phase != job.phase || printed.elapsed() >= LINE_INTERVAL {
                    say(format_args!("{title}: {}{separator}{figures}", job.phase));
                    phase.clone_from(&job.phase);
                    *printed = Instant::now();
                }
            }
            Self::Quiet => {}
        }
    }

    /// Says something beside the progress.
    pub(crate) fn say(&self, message: &str) {
        match self {
            Self::Bar(bar) => bar.suspend(|| say(message)),
            Self::Lines { .. } | Self::Quiet => say(message),
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.finish();
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_say_what_is_known() {
        let job = |done, total, rate, end| JobView {
            bytes_done: done,
            bytes_total: total,
            rate,
            expected_end_time: end,
            ..JobView::default()
        };
        assert_eq!(job(0, 0, 0, 0).figures(5), "");
        assert_eq!(job(2048, 0, 0, 0).figures(5), "2.0K");
        assert_eq!(job(2048, 4096, 1024, 12_000_005).figures(5), "2.0K of 4.0K, 1.0K/s, 12s left");
        assert_eq!(job(4096, 2048, 0, 1).figures(5), "4.0K", "an estimate that was too low is not shown");
    }

    #[test]
    fn templates_are_good() {
        for template in ["{spinner} {prefix}: {msg}", "{prefix} [{wide_bar}] {percent}% {msg}"] {
            assert!(ProgressStyle::with_template(template).is_ok());
        }
    }

    #[test]
    fn a_job_is_read_from_what_the_daemon_says() {
        let text =
            r#"{"number":7,"type":"create","phase":"data","result":null,"error":null,"bytes_done":5,"new_field":1}"#;
        let job: JobView = serde_json::from_str(text).unwrap();
        assert_eq!((job.bytes_done, job.is_over(), job.job_type.as_str()), (5, false, "create"));
        let text = r#"{"result":"failed","error":{"name":"NoSpace","message":"full"}}"#;
        let job: JobView = serde_json::from_str(text).unwrap();
        assert!(job.is_over() && job.error.unwrap().name == "NoSpace");
    }
}
