//! `stats`: numbers about backups and jobs.

use std::fmt::Write as _;

use serde_json::Value;

use super::super::{
    arguments::StatsArguments,
    client::Client,
    error::CtlError,
    human,
    output::Output,
    sparkline::sparkline,
    table::{Column, Table, visible},
};
use crate::{
    model::ErrorCode,
    statistics::report::{Figures, Outcomes, Point, Report, SourceFigures},
};

/// Months that are shown; `--json` has them all.
const MONTHS_SHOWN: usize = 24;

pub(super) async fn run(client: &Client, output: &Output, arguments: &StatsArguments) -> Result<(), CtlError> {
    let source = arguments.source.as_deref().unwrap_or_default();
    let text = client.manager().get_statistics(source, 0).await?;
    print(output, serde_json::from_str(&text).map_err(odd)?, !source.is_empty())
}

fn odd(error: serde_json::Error) -> CtlError {
    CtlError::new(ErrorCode::NotSupported, format!("cannot read the statistics: {error}"))
}

/// Prints statistics as `GetStatistics` gives them: of one source, or a table of all.
pub(in crate::ctl) fn print(output: &Output, json: Value, one: bool) -> Result<(), CtlError> {
    if output.is_json() {
        return output.json(&json);
    }
    let report: Report = serde_json::from_value(json).map_err(odd)?;
    let bars = output.is_terminal();
    match (one, report.sources.as_slice()) {
        (true, [source]) => {
            output.text(&facts(&source.source, &source.figures, Some(source), &report, bars))?;
            if !source.months.is_empty() {
                output.text("\n")?;
                output.text(&months(source).render(output.style()))?;
            }
            Ok(())
        }
        _ => {
            output.table(&table(&report, bars), "source")?;
            output.text("\n")?;
            output.text(&facts("all", &report.total, None, &report, bars))
        }
    }
}

fn table(report: &Report, bars: bool) -> Table {
    let mut columns = vec![
        Column::Left("SOURCE"),
        Column::Right("BACKUPS"),
        Column::Left("NEWEST"),
        Column::Right("24H"),
        Column::Right("7D"),
        Column::Right("SIZE"),
        Column::Right("NEW"),
        Column::Right("RATIO"),
        Column::Right("SUCCESS"),
        Column::Right("TOOK"),
        Column::Right("RECOVERY"),
    ];
    if bars {
        columns.push(Column::Flexible("SIZES"));
    }
    let mut table = Table::new(&columns);
    for source in &report.sources {
        let figures = &source.figures;
        let newest = figures.newest_at.map_or_else(|| "never".to_owned(), |at| human::ago(at, report.now));
        let mut row = vec![
            source.source.clone(),
            human::count(figures.backups),
            newest,
            human::count(figures.taken_24h),
            human::count(figures.taken_7d),
            human::size(figures.average.raw_bytes),
            human::size(figures.average.new_bytes),
            ratio(figures.total_ratio),
            percent(figures.creates.success_rate),
            human::duration(figures.average.duration),
            figures.recovery.last.map(human::duration).unwrap_or_default(),
        ];
        if bars {
            row.push(sparkline(&numbers(&source.trend, |point| point.raw_bytes)));
        }
        table.row(row);
    }
    table
}

fn facts(name: &str, figures: &Figures, source: Option<&SourceFigures>, report: &Report, bars: bool) -> String {
    let mut text = String::new();
    let mut fact = |name: &str, value: String| {
        if !value.is_empty() {
            let _ = writeln!(text, "{name:>10}: {}", visible(&value));
        }
    };
    fact("Source", name.to_owned());
    let marked = |count: u64, what: &str| if count == 0 { String::new() } else { format!(", {count} {what}") };
    fact(
        "Backups",
        format!(
            "{} there{}{}; {} taken, {} in 24 h, {} in 7 d",
            human::count(figures.backups),
            marked(figures.damaged, "DAMAGED"),
            marked(figures.suspect, "suspect"),
            human::count(figures.taken),
            human::count(figures.taken_24h),
            human::count(figures.taken_7d)
        ),
    );
    if let (Some(newest), Some(oldest)) = (figures.newest_at, figures.oldest_at) {
        fact("Newest", format!("{} ({})", human::time(newest), human::ago(newest, report.now)));
        fact("Oldest", format!("{} ({})", human::time(oldest), human::ago(oldest, report.now)));
    }
    let average = &figures.average;
    let trend = |of: fn(&Point) -> u64, show: fn(u64) -> String| {
        source.map_or_else(String::new, |source| shown_trend(&numbers(&source.trend, of), show, bars))
    };
    if figures.backups > 0 {
        let size = human::size(average.raw_bytes);
        fact("Size", format!("{size} on average{}", trend(|point| point.raw_bytes, human::size)));
        fact("Rows", format!("{} on average{}", human::count(average.rows), trend(|point| point.rows, human::count)));
        let new = human::size(average.new_bytes);
        fact("New", format!("{new} on average{}", trend(|point| point.new_bytes, human::size)));
        let took = human::duration(average.duration);
        fact("Took", format!("{took} on average{}", trend(|point| point.duration, human::duration)));
        fact(
            "Together",
            format!(
                "{} of data, {} compressed ({}), {} with shared chunks once ({}): {}",
                human::size(figures.raw_bytes),
                human::size(figures.stored_bytes),
                ratio(figures.compression_ratio),
                human::size(figures.new_bytes),
                ratio(figures.deduplication_ratio),
                ratio(figures.total_ratio)
            ),
        );
    }
    fact("Growth", growth(figures));
    for (name, outcomes) in [
        ("Success", &figures.creates),
        ("in 30 d", &figures.creates_30d),
        ("Verified", &figures.verifies),
        ("Drilled", &figures.drills),
        ("Restored", &figures.restores),
    ] {
        fact(name, shown(outcomes));
    }
    let recovery = &figures.recovery;
    if let (Some(average), Some(longest)) = (recovery.average, recovery.longest) {
        let last = recovery.last.map(|last| format!("{} at last, ", human::duration(last))).unwrap_or_default();
        let (average, longest) = (human::duration(average), human::duration(longest));
        let drills = human::plural(usize::try_from(recovery.drills).unwrap_or(usize::MAX), "drill");
        fact("Recovery", format!("{last}{average} on average, {longest} at most, in {drills}"));
    }
    fact("Jobs known", format!("since {}; what failed before is not known", human::time(report.jobs_since)));
    text
}

fn growth(figures: &Figures) -> String {
    let data = figures.raw_bytes_growth_per_day.map(|bytes| {
        let sign = if bytes < 0.0 { "-" } else { "+" };
        format!("{sign}{} of data a day", human::size(whole(bytes.abs())))
    });
    let new =
        figures.new_bytes_per_day.map(|bytes| format!("{} written to the repository a day", human::size(whole(bytes))));
    [data, new].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the conversion saturates")]
fn whole(number: f64) -> u64 {
    number as u64
}

fn shown(outcomes: &Outcomes) -> String {
    let Some(rate) = outcomes.success_rate else { return String::new() };
    let counted = |count: u64, what: &str| if count == 0 { String::new() } else { format!(", {count} {what}") };
    format!(
        "{} ({} done{}{}{})",
        percent(Some(rate)),
        outcomes.done,
        counted(outcomes.failed, "failed"),
        counted(outcomes.interrupted, "interrupted"),
        counted(outcomes.canceled, "cancelled")
    )
}

/// Numbers of the trend, the oldest first.
fn numbers(points: &[Point], of: fn(&Point) -> u64) -> Vec<u64> {
    points.iter().map(of).collect()
}

/// The trend after an average: bars on a terminal, and in any case where it began and ended.
fn shown_trend(numbers: &[u64], show: fn(u64) -> String, bars: bool) -> String {
    let ([first, .., last], true) = (numbers, numbers.len() > 1) else { return String::new() };
    let bars = if bars { format!("{} ", sparkline(numbers)) } else { String::new() };
    format!("; {bars}{} to {} in {} runs", show(*first), show(*last), numbers.len())
}

fn ratio(ratio: Option<f64>) -> String {
    ratio.map(|ratio| format!("{ratio:.1}x")).unwrap_or_default()
}

/// A share, cut off and not rounded: 99.96 % are not all.
fn percent(share: Option<f64>) -> String {
    share.map(|share| format!("{:.1}%", (share * 1000.0).floor() / 10.0)).unwrap_or_default()
}

fn months(source: &SourceFigures) -> Table {
    let mut table = Table::new(&[
        Column::Left("MONTH"),
        Column::Right("BACKUPS"),
        Column::Right("SUCCESS"),
        Column::Right("FAILED"),
        Column::Right("SIZE"),
        Column::Right("NEW"),
        Column::Right("TOOK"),
    ]);
    for month in source.months.iter().rev().take(MONTHS_SHOWN) {
        table.row([
            month.month.clone(),
            human::count(month.backups),
            percent(month.creates.success_rate),
            human::count(month.creates.failed + month.creates.interrupted),
            human::size(month.average.raw_bytes),
            human::size(month.new_bytes),
            human::duration(month.average.duration),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_that_is_not_all_is_not_shown_as_all() {
        assert_eq!(
            [percent(Some(1.0)), percent(Some(0.9999)), percent(Some(2.0 / 3.0)), percent(None)],
            ["100.0%", "99.9%", "66.6%", ""]
        );
        assert_eq!([ratio(Some(2.04)), ratio(None)], ["2.0x", ""]);
    }

    #[test]
    fn a_trend_is_bars_on_a_terminal_and_ascii_elsewhere() {
        assert_eq!(shown_trend(&[1], human::count, true), "");
        assert_eq!(shown_trend(&[1, 2], human::count, true), "; ▁█ 1 to 2 in 2 runs");
        let plain = shown_trend(&[1, 5, 2], human::count, false);
        assert_eq!(plain, "; 1 to 2 in 3 runs");
        assert!(plain.is_ascii());
    }
}
