//! Sizes and times as people read them, in the manner of systemctl.

use chrono::{DateTime, Local};

/// Bytes: `0B`, `512B`, `1.2K`, `34.5G`; powers of 1024.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["K", "M", "G", "T", "P", "E"];
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let mut exponent = 0;
    let mut rest = bytes;
    while rest >= 1024 * 1024 {
        rest >>= 10;
        exponent += 1;
    }
    // One digit after the point, cut off as systemd does it: 1.9G stays below two gibibytes.
    format!("{}.{}{}", rest >> 10, (rest & 1023) * 10 / 1024, UNITS[exponent])
}

/// A count with separators: `1 234 567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

/// A duration in microseconds, its two largest units: `2h 3min`, `45s`, `120ms`.
pub(crate) fn duration(microseconds: u64) -> String {
    const UNITS: [(&str, u64); 5] = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1), ("", 0)];
    let seconds = microseconds / 1_000_000;
    if seconds == 0 {
        return format!("{}ms", microseconds / 1_000);
    }
    if seconds < 10 {
        return format!("{seconds}.{}s", microseconds % 1_000_000 / 100_000);
    }
    let first = UNITS.iter().position(|(_, length)| seconds >= *length).unwrap_or(3);
    let (unit, length) = UNITS[first];
    let (next_unit, next_length) = UNITS[first + 1];
    match (seconds % length).checked_div(next_length) {
        None | Some(0) => format!("{}{unit}", seconds / length),
        Some(rest) => format!("{}{unit} {rest}{next_unit}", seconds / length),
    }
}

/// How long ago a time was, both in microseconds since the epoch: `3min ago`, `2 days ago`; `in 5s` for the future.
pub(crate) fn ago(time: u64, now: u64) -> String {
    if time > now {
        return if time - now < 1_000_000 { "now".to_owned() } else { format!("in {}", duration(time - now)) };
    }
    let seconds = (now - time) / 1_000_000;
    let (number, unit) = match seconds {
        0 => return "now".to_owned(),
        1..60 => (seconds, "s"),
        60..3_600 => (seconds / 60, "min"),
        3_600..86_400 => (seconds / 3_600, "h"),
        86_400..2_592_000 => (seconds / 86_400, " day"),
        2_592_000..31_536_000 => (seconds / 2_592_000, " month"),
        _ => (seconds / 31_536_000, " year"),
    };
    let plural = if unit.starts_with(' ') && number > 1 { "s" } else { "" };
    format!("{number}{unit}{plural} ago")
}

/// A time in the local zone, `2026-11-01 14:30:05`; `-` for 0 and what no calendar has.
pub(crate) fn time(microseconds: u64) -> String {
    let stamp = i64::try_from(microseconds).ok().filter(|stamp| *stamp != 0).and_then(DateTime::from_timestamp_micros);
    stamp.map_or_else(|| "-".to_owned(), |stamp| stamp.with_timezone(&Local).format("%Y-%m-%d %H:%M:%S").to_string())
}

/// One or several: `1 backup`, `2 backups`.
pub(crate) fn plural(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (bytes, text) in [
            (0, "0B"),
            (1023, "1023B"),
            (1024, "1.0K"),
            (1536, "1.5K"),
            (1_048_575, "1023.9K"),
            (1 << 20, "1.0M"),
            (5 << 30, "5.0G"),
            ((2 << 30) - 1, "1.9G"),
            (u64::MAX, "15.9E"),
        ] {
            assert_eq!(size(bytes), text);
        }
    }

    #[test]
    fn durations() {
        for (microseconds, text) in [
            (0, "0ms"),
            (250_000, "250ms"),
            (1_500_000, "1.5s"),
            (59_000_000, "59s"),
            (60_000_000, "1min"),
            (3_723_000_000, "1h 2min"),
            (90_000_000_000, "1d 1h"),
        ] {
            assert_eq!(duration(microseconds), text);
        }
    }

    #[test]
    fn relative_times() {
        let now = 2_000_000_000_000_000;
        for (seconds, text) in [
            (0, "now"),
            (1, "1s ago"),
            (90, "1min ago"),
            (7_200, "2h ago"),
            (86_400, "1 day ago"),
            (5 * 86_400, "5 days ago"),
            (70 * 86_400, "2 months ago"),
            (800 * 86_400, "2 years ago"),
        ] {
            assert_eq!(ago(now - seconds * 1_000_000, now), text);
        }
        assert_eq!(ago(now + 5_000_000, now), "in 5.0s");
    }

    #[test]
    fn counts_and_nouns() {
        assert_eq!([count(0), count(999), count(1000), count(1_234_567)], ["0", "999", "1 000", "1 234 567"]);
        assert_eq!([plural(0, "job"), plural(1, "job"), plural(2, "job")], ["0 jobs", "1 job", "2 jobs"]);
        assert_eq!(time(0), "-");
        assert_eq!(time(u64::MAX), "-");
    }
}
