//! `schedule`: when a source is backed up, as systemd's timers say it, or as cron does.
//!
//! Invariant: a cron expression is translated to calendar events that happen at exactly the minutes at which cron's would
//! (apart from the hours that a clock change skips or repeats), or it is refused with the reason.

use std::{collections::BTreeSet, ops::RangeInclusive};

use toml::de::DeValue;

use super::values;

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];
/// The most days that each month can have.
const LENGTHS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

/// Reads the value of `schedule`, one expression or several, as values of `OnCalendar=`.
pub(super) fn schedule(value: DeValue<'_>) -> Result<Vec<String>, String> {
    if matches!(value, DeValue::String(_)) {
        return on_calendar(&values::word(value)?);
    }
    let words = values::words(value)
        .map_err(|_| "must be a calendar event such as \"daily\", or an array of such strings".to_owned())?;
    let mut events = Vec::new();
    for word in words {
        events.extend(on_calendar(&word)?);
    }
    match events.is_empty() {
        true => Err("is empty; leave the key out for no schedule".to_owned()),
        false => Ok(events),
    }
}

/// What one expression means as values of `OnCalendar=`.
fn on_calendar(text: &str) -> Result<Vec<String>, String> {
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let odd = text.chars().find(|&c| !c.is_ascii_alphanumeric() && !"*,.-/:~_+ ".contains(c));
    match (fields.as_slice(), odd) {
        (_, Some('@')) => Err(format!("{text:?} is cron's word; without the @ it is systemd's, which may differ")),
        (_, Some(odd)) => Err(format!("{text:?} has a character that no calendar event has: {odd:?}")),
        (&[minute, hour, day, month, weekday], _) => {
            cron(minute, hour, day, month, weekday).map_err(|why| format!("the cron expression {text:?}: {why}"))
        }
        (&[] | &[_, _, _, _, _, ..], _) => Err(format!(
            "{text:?} is neither a calendar event (systemd.time(7)) nor a cron expression, which has five fields"
        )),
        _ => Ok(vec![fields.join(" ")]),
    }
}

/// A cron expression. Where both days are restricted, cron runs at either of them; where one begins with `*`, at both.
fn cron(minute: &str, hour: &str, day: &str, month: &str, weekday: &str) -> Result<Vec<String>, String> {
    let minutes = field("minute", minute, 0..=59, &[])?;
    let hours = field("hour", hour, 0..=23, &[])?;
    let days = field("day of the month", day, 1..=31, &[])?;
    let months = field("month", month, 1..=12, &MONTHS)?;
    // Both 0 and 7 are Sunday.
    let weekdays: BTreeSet<u32> =
        field("day of the week", weekday, 0..=7, &DAYS)?.into_iter().map(|day| day % 7).collect();
    let time = format!("{}:{}:00", list(&hours, 24, 2), list(&minutes, 60, 2));
    let date = format!("*-{}-{}", list(&months, 12, 2), list(&days, 31, 2));
    let names: Vec<&str> =
        DAYS.iter().enumerate().filter(|(i, _)| weekdays.contains(&(*i as u32))).map(|d| *d.1).collect();
    let names = names.join(",");
    let never = "names days that no month has";
    let exists = months.iter().any(|&month| days.iter().any(|&day| day <= LENGTHS[month as usize - 1]));
    if day.starts_with('*') || weekday.starts_with('*') {
        if !exists {
            return Err(never.to_owned());
        }
        let prefix = if weekdays.len() == 7 { String::new() } else { format!("{names} ") };
        return Ok(vec![format!("{prefix}{date} {time}")]);
    }
    let mut events = vec![format!("{names} *-{}-* {time}", list(&months, 12, 2))];
    if exists {
        events.insert(0, format!("{date} {time}"));
    }
    Ok(events)
}

/// The numbers that a field of a cron expression names.
fn field(what: &str, text: &str, range: RangeInclusive<u32>, names: &[&str]) -> Result<BTreeSet<u32>, String> {
    let first = *range.start();
    let number = |text: &str| {
        let named = names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let found = match named {
            Some(position) => u32::try_from(position).ok().map(|position| position + first),
            None => text.parse().ok().filter(|_| text.bytes().all(|b| b.is_ascii_digit())),
        };
        found
            .filter(|number| range.contains(number))
            .ok_or_else(|| format!("{text:?} is no {what}; it must be from {} to {}", range.start(), range.end()))
    };
    let mut numbers = BTreeSet::new();
    for part in text.split(',') {
        let (span, step) = match part.split_once('/') {
            Some((span, step)) => {
                let step = step.parse::<usize>().ok().filter(|&step| step > 0);
                (span, step.ok_or_else(|| format!("the step of {part:?} must be a number above 0"))?)
            }
            None => (part, 1),
        };
        let span = match span.split_once('-') {
            _ if span == "*" => range.clone(),
            Some((from, to)) => number(from)?..=number(to)?,
            None if part.contains('/') => {
                return Err(format!("crons differ about what {part:?} means; write {span}-{}/{step}", range.end()));
            }
            None => number(span)?..=number(span)?,
        };
        if span.is_empty() {
            return Err(format!("{part:?} ends before it begins"));
        }
        numbers.extend(span.step_by(step));
    }
    Ok(numbers)
}

/// Numbers as a calendar event lists them; `*` for all of them.
fn list(numbers: &BTreeSet<u32>, all: usize, width: usize) -> String {
    if numbers.len() == all {
        return "*".to_owned();
    }
    numbers.iter().map(|number| format!("{number:0width$}")).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_calendar_event_is_kept_as_it_is() {
        for text in ["daily", "Mon..Fri *-*-* 02:30:00 Europe/Berlin", "*-*~01 03:00", "hourly", "*:0/15"] {
            assert_eq!(on_calendar(text), Ok(vec![text.to_owned()]));
        }
        assert_eq!(on_calendar(" Mon   04:00 ").unwrap(), ["Mon 04:00"]);
    }

    #[test]
    fn cron_is_translated_exactly() {
        for (text, events) in [
            ("30 2 * * *", vec!["*-*-* 02:30:00"]),
            ("*/20 * * * *", vec!["*-*-* *:00,20,40:00"]),
            ("0 8-18/5 * * 1-5", vec!["mon,tue,wed,thu,fri *-*-* 08,13,18:00:00"]),
            ("0 0 1,15 * *", vec!["*-*-01,15 00:00:00"]),
            ("0 0 * jan,JUL sun", vec!["sun *-01,07-* 00:00:00"]),
            ("0 0 * * 5-7", vec!["sun,fri,sat *-*-* 00:00:00"]),
            // Either of two restricted days, but both where one begins with a star.
            ("0 0 13 * 5", vec!["*-*-13 00:00:00", "fri *-*-* 00:00:00"]),
            ("0 0 */10 * 5", vec!["fri *-*-01,11,21,31 00:00:00"]),
            ("0 0 31 2 5", vec!["fri *-02-* 00:00:00"]),
        ] {
            assert_eq!(on_calendar(text).unwrap(), events, "{text}");
        }
    }

    #[test]
    fn what_is_not_sure_is_refused_with_the_reason() {
        for (text, why) in [
            ("@daily", "without the @"),
            ("60 0 * * *", "\"60\" is no minute; it must be from 0 to 59"),
            ("0 0 0 * *", "\"0\" is no day of the month"),
            ("0 0 * * mo", "\"mo\" is no day of the week"),
            ("5/10 * * * *", "write 5-59/10"),
            ("*/0 * * * *", "the step of \"*/0\""),
            ("0 22-4 * * *", "ends before it begins"),
            ("0 0 31 2 *", "names days that no month has"),
            ("0 0 * * * /usr/bin/dump x", "neither a calendar event"),
            ("daily\nExecStart=x", "a character"),
            ("%i", "a character"),
            ("", "neither"),
        ] {
            let error = on_calendar(text).unwrap_err();
            assert!(error.contains(why), "{text:?}: {error}");
        }
    }

    #[test]
    fn systemd_reads_what_is_made_of_cron() {
        let expressions =
            ["30 2 * * *", "*/7 1-23/2 */3 feb-nov/3 0,2-4", "0 0 13 * 5", "59 23 31 dec *", "* * 29 2 *"];
        for event in expressions.iter().flat_map(|text| on_calendar(text).unwrap()) {
            let output = std::process::Command::new("systemd-analyze").args(["calendar", &event]).output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(
                output.status.success() && said.contains("Next elapse: ") && !said.contains("never"),
                "{event}: {said}"
            );
        }
    }
}
