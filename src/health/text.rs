//! Durations and sizes in sentences.

/// `26h`, `3d 4h`, `12min`, `40s`.
pub(super) fn duration(micros: u64) -> String {
    let seconds = micros / 1_000_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match () {
        () if seconds < 60 => format!("{seconds}s"),
        () if minutes < 120 => format!("{minutes}min"),
        () if hours < 48 => format!("{hours}h"),
        () if hours % 24 == 0 || days >= 14 => format!("{days}d"),
        () => format!("{days}d {}h", hours % 24),
    }
}

/// `1.5 GiB`.
pub(super) fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}
