//! What was probably meant by a key that nobody knows.

/// The key that was probably meant: at most a third of its letters wrong.
pub(super) fn nearest(found: &str, keys: &[&'static str]) -> Option<&'static str> {
    let distances = keys.iter().map(|key| (edit_distance(found, key), *key));
    let (distance, key) = distances.min()?;
    (distance <= key.len().div_ceil(3)).then_some(key)
}

/// How many letters must be added, removed or changed to make one word of the other.
fn edit_distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (n, c) in one.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = n + 1;
        for (m, d) in other.iter().enumerate() {
            let changed = diagonal + usize::from(c != *d);
            diagonal = row[m + 1];
            row[m + 1] = changed.min(row[m] + 1).min(diagonal + 1);
        }
    }
    row[other.len()]
}
