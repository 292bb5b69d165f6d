//! What to write instead of what is wrong.

use super::read::{Asked, Takes};

/// What to say of a key that nobody knows: the one that was meant, else the section it belongs to, else all there are.
pub(super) fn unknown_key(path: &str, known: &[String], all: &[Asked]) -> String {
    let name = path.rsplit('.').next().unwrap_or(path);
    if let Some(meant) = nearest(name, known.iter().map(String::as_str)) {
        return format!("no such key; did you mean {meant}?");
    }
    let mut elsewhere: Vec<String> = all
        .iter()
        .filter(|asked| asked.takes != Takes::Section)
        .filter_map(|asked| asked.path.rsplit_once('.').filter(|(_, last)| *last == name))
        .map(|(section, _)| format!("[{section}]"))
        .collect();
    elsewhere.sort_unstable();
    elsewhere.dedup();
    if elsewhere.is_empty() {
        format!("no such key; there are {}", known.join(", "))
    } else {
        format!("no such key here; it belongs under {}", elsewhere.join(" or "))
    }
}

/// What to say of a word that is none of those there are.
pub(super) fn unknown_word(text: &str, what: &str, words: &[&str]) -> String {
    let listed = match words {
        [all @ .., last] if !all.is_empty() => format!("{} and {last}", all.join(", ")),
        _ => words.join(", "),
    };
    let meant = nearest(text, words.iter().copied()).map(|word| format!("; did you mean \"{word}\"?"));
    format!("{text:?} is no {what}; there are {listed}{}", meant.unwrap_or_default())
}

/// What a number counts, as its key's name says.
pub(super) fn unit(name: &str) -> &'static str {
    match scale(name) {
        Some(Scale::Time(1)) => " of milliseconds",
        Some(Scale::Time(1000)) => " of seconds",
        Some(Scale::Time(_)) => " of days",
        Some(Scale::Size) => " of KiB",
        None if name.ends_with("_percent") => " of percent",
        None => "",
    }
}

/// The number that a text such as `1h`, `30 s`, `8 MiB` or `3600` means in the unit of its key.
pub(super) fn number_meant(name: &str, text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = (text.get(..digits)?.parse::<u64>().ok()?, text.get(digits..)?.trim().to_ascii_lowercase());
    if suffix.is_empty() {
        return Some(number);
    }
    let (factor, divisor) = match scale(name)? {
        Scale::Time(milliseconds) => {
            let (_, factor) = TIMES.iter().find(|(words, _)| words.contains(&suffix.as_str()))?;
            (*factor, milliseconds)
        }
        Scale::Size => (SIZES.iter().find(|(words, _)| words.contains(&suffix.as_str()))?.1, 1),
    };
    Some(number.checked_mul(factor)? / divisor).filter(|meant| *meant > 0)
}

/// The name that was most likely meant by `name`: one that is a slip of the finger away, or differs by its unit.
fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let name = name.to_ascii_lowercase().replace('-', "_");
    let distance = |other: &str| {
        let longer = |long: &str, short: &str| long.strip_prefix(short).is_some_and(|rest| rest.starts_with('_'));
        if longer(other, &name) || longer(&name, other) {
            return 1;
        }
        strsim::damerau_levenshtein(&name, &other.replace('-', "_"))
    };
    let nearest = known.map(|other| (distance(other), other)).min_by_key(|(distance, _)| *distance)?;
    // Of three letters one may be wrong.
    (nearest.0 * 3 <= name.len()).then_some(nearest.1)
}

enum Scale {
    /// Milliseconds in one.
    Time(u64),
    /// KiB.
    Size,
}

fn scale(name: &str) -> Option<Scale> {
    match name.rsplit('_').next() {
        Some("ms") => Some(Scale::Time(1)),
        Some("s") => Some(Scale::Time(1000)),
        Some("days") => Some(Scale::Time(86_400_000)),
        _ if name.contains("_kib") => Some(Scale::Size),
        _ => None,
    }
}

/// In milliseconds.
const TIMES: [(&[&str], u64); 5] = [
    (&["ms"], 1),
    (&["s", "sec", "second", "seconds"], 1000),
    (&["m", "min", "minute", "minutes"], 60_000),
    (&["h", "hour", "hours"], 3_600_000),
    (&["d", "day", "days"], 86_400_000),
];
/// In KiB.
const SIZES: [(&[&str], u64); 3] =
    [(&["k", "kb", "kib"], 1), (&["m", "mb", "mib"], 1024), (&["g", "gb", "gib"], 1_048_576)];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_told_and_a_stranger_gets_the_list() {
        let known = ["listen", "expires_default_s", "networks"].map(str::to_owned);
        for (wrong, meant) in [
            ("listem", "listen"),
            ("Listen", "listen"),
            ("lisetn", "listen"),
            ("network", "networks"),
            ("expires_default", "expires_default_s"),
            ("expires-default-s", "expires_default_s"),
        ] {
            let said = unknown_key(&format!("http.{wrong}"), &known, &[]);
            assert_eq!(said, format!("no such key; did you mean {meant}?"));
        }
        let stranger = unknown_key("http.color", &known, &[]);
        assert_eq!(stranger, "no such key; there are listen, expires_default_s, networks");
        let all = ["ops.port", "http.port"].map(|path| Asked { path: path.into(), takes: Takes::Text });
        assert_eq!(unknown_key("port", &known, &all), "no such key here; it belongs under [http] or [ops]");
    }

    #[test]
    fn numbers_with_units_are_what_they_mean_in_the_unit_of_the_key() {
        assert_eq!(number_meant("expires_max_s", "2h"), Some(7200));
        assert_eq!(number_meant("expires_max_s", "90"), Some(90));
        assert_eq!(number_meant("commit_wait_ms", "1 s"), Some(1000));
        assert_eq!(number_meant("calls_days", "48 hours"), Some(2));
        assert_eq!(number_meant("held_kib_max", "64MiB"), Some(65_536));
        assert_eq!(number_meant("connections_max", "2h"), None);
        assert_eq!(number_meant("expires_max_s", "soon"), None);
        assert_eq!(number_meant("expires_max_s", "99999999999999999999d"), None);
    }
}
