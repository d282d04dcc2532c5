//! Passwords and keys that stand in a file of their own.

use super::{file, section::Section};
use crate::secret::Secret;

/// More is no password.
const MAX_BYTES: u64 = 4096;

/// Reads the first line of the section's `password_file`, if it names one.
pub(super) fn read(section: &Section<'_>) -> Option<Secret> {
    let (text, content) = file::secret(section, "password_file", MAX_BYTES)?;
    match content.expose().lines().next() {
        None | Some("") => {
            section.document.refuse(&text.key, "its first line is empty, expected the password there");
            None
        }
        Some(password) => Some(Secret::new(password)),
    }
}

/// Reads all lines of the file that `key` names, if it does, with the key's full name.
pub(super) fn read_lines(section: &Section<'_>, key: &'static str) -> Option<(String, Vec<Secret>)> {
    let (text, content) = file::secret(section, key, MAX_BYTES)?;
    let lines: Vec<Secret> = content.expose().lines().map(Secret::new).collect();
    if lines.is_empty() {
        section.document.refuse(&text.key, "its file is empty, expected a key in each line");
    }
    Some((text.key, lines))
}
