//! Passwords and keys that stand in a file of their own.

use std::path::PathBuf;

use super::{file, section::Section};
use crate::secret::{self, Secret};

/// More is no key.
const MAX_BYTES: u64 = 4096;

/// The section's `password_file`, if it names one, with the password that stands there now.
pub(super) fn read(section: &Section<'_>) -> Option<(PathBuf, Secret)> {
    let (text, path) = file::of_secret(section, "password_file")?;
    let password =
        secret::read_password(&path).map_err(|why| section.document.refuse(&text.key, why)).ok()?;
    Some((path, password))
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
