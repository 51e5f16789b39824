//! Sizes and durations as people write them: `10GiB`, `2h 30min`.

use std::time::Duration;

/// The units of sizes. The letters alone are powers of 1024, as in systemd's settings.
const SIZES: &[(&str, u64)] = &[
    ("", 1),
    ("B", 1),
    ("K", 1 << 10),
    ("KiB", 1 << 10),
    ("M", 1 << 20),
    ("MiB", 1 << 20),
    ("G", 1 << 30),
    ("GiB", 1 << 30),
    ("T", 1 << 40),
    ("TiB", 1 << 40),
    ("kB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
];

/// The units of durations, in milliseconds; a subset of systemd.time(7).
const DURATIONS: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1_000),
    ("sec", 1_000),
    ("m", 60_000),
    ("min", 60_000),
    ("h", 3_600_000),
    ("hr", 3_600_000),
    ("d", 86_400_000),
    ("w", 604_800_000),
];

/// Reads a size in bytes: digits, optionally with a fraction, and a unit (`512MiB`, `1.5G`, `10GB`, `4096`).
///
/// # Errors
/// A sentence that says what would be right.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let wanted = || format!("{text:?} is not a size; write a number and a unit, such as \"512MiB\" or \"10GiB\"");
    let (value, rest) = take_quantity(text.trim(), SIZES).ok_or_else(wanted)?;
    if !rest.is_empty() {
        return Err(wanted());
    }
    value.ok_or_else(|| format!("{text:?} is larger than any size that can be handled"))
}

/// Reads a duration: one or more numbers with units (`30s`, `1h 30min`). Zero is refused.
///
/// # Errors
/// A sentence that says what would be right.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let wanted =
        || format!("{text:?} is not a duration; write a number and a unit, such as \"30s\", \"10min\" or \"2h\"");
    let too_long = || format!("{text:?} is longer than any duration that can be handled");
    let mut rest = text.trim();
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (value, tail) = take_quantity(rest, DURATIONS).ok_or_else(wanted)?;
        total = value.and_then(|value| total.checked_add(value)).ok_or_else(too_long)?;
        rest = tail;
    }
    match total {
        0 if text.trim().is_empty() => Err(wanted()),
        0 => Err(format!("{text:?} is no time at all; leave the key out for no limit")),
        // Beyond this, microseconds on the bus and time-outs of libraries would not fit.
        total if total > 100 * 365 * 86_400_000 => Err(too_long()),
        total => Ok(Duration::from_millis(total)),
    }
}

/// Takes one number with its unit off the front: the value (`None` if it does not fit) and what follows. The outer
/// `None` is for text that does not begin with a number and a known unit.
fn take_quantity<'t>(text: &'t str, units: &[(&str, u64)]) -> Option<(Option<u64>, &'t str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let rest = rest.trim_start();
    let end = rest.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    let factor = units.iter().find(|(name, _)| *name == unit)?.1;
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    if whole.is_empty() || fraction.is_empty() || fraction.len() > 9 || fraction.contains('.') {
        return None;
    }
    let fraction_scale = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let fraction: u128 = fraction.parse().ok()?;
    let value = whole.parse::<u128>().ok().and_then(|whole| {
        let exact = whole.checked_mul(u128::from(factor))?;
        u64::try_from(exact.checked_add(fraction * u128::from(factor) / fraction_scale)?).ok()
    });
    Some((value, rest.trim_start()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("1B", 1),
            ("512MiB", 512 << 20),
            ("512 MiB", 512 << 20),
            ("1.5G", 3 << 29),
            ("10GiB", 10 << 30),
            ("10GB", 10_000_000_000),
            ("2T", 2 << 40),
            ("3kB", 3000),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text:?}");
        }
        for bad in ["", "G", "10 Gigs", "-1", "1e9", "1..5G", "1.G", ".5G", "5GiB!", "99999999T", "1G 1M", "ten"] {
            assert!(parse_size(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn durations_are_read() {
        for (text, milliseconds) in [
            ("250ms", 250),
            ("30s", 30_000),
            ("1.5h", 5_400_000),
            ("1h 30min", 5_400_000),
            ("1h30m", 5_400_000),
            ("2d", 172_800_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(milliseconds)), "{text:?}");
        }
        for bad in ["", " ", "30", "0s", "s", "-5s", "1 fortnight", "5s!", "1h,2m", "99999999999w", "1000000d"] {
            assert!(parse_duration(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_gets_an_answer(text: String) {
            let _ = (parse_size(&text), parse_duration(&text));
        }

        #[test]
        fn whole_numbers_are_exact(number in 0_u64..1 << 23, unit in 0_usize..14) {
            let (name, factor) = SIZES[unit];
            prop_assert_eq!(parse_size(&format!("{number}{name}")), Ok(number * factor));
        }
    }
}
