//! Numbers in words.

/// `1,234,567`.
pub(crate) fn count(number: impl TryInto<i64>) -> String {
    let digits = number.try_into().unwrap_or(i64::MAX).to_string();
    let mut grouped = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `812 B`, `1.2 MiB`.
pub(super) fn bytes(number: f64) -> String {
    let mut scaled = number;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if scaled < 1023.5 {
            return match unit {
                "B" => format!("{scaled:.0} B"),
                _ => format!("{scaled:.1} {unit}"),
            };
        }
        scaled /= 1024.0;
    }
    format!("{scaled:.1} TiB")
}

/// `12 ms`, `0.2 s`, `45 s`, `3 min 20 s`, `2 h 5 min`, `3 d 4 h`.
pub(crate) fn duration(seconds: f64) -> String {
    if 0.0 < seconds && seconds < 0.0995 {
        return format!("{:.0} ms", (seconds * 1000.0).max(1.0));
    }
    if seconds < 9.95 {
        return format!("{seconds:.1} s");
    }
    let seconds = seconds.round() as u64;
    let (larger, smaller, size) = match seconds {
        0..60 => return format!("{seconds} s"),
        60..3600 => ("min", "s", 60),
        3600..86_400 => ("h", "min", 3600),
        _ => ("d", "h", 86_400),
    };
    let next = if size == 86_400 { 3600 } else { size / 60 };
    format!("{} {larger} {} {smaller}", seconds / size, seconds % size / next)
}
