//! Passwords and keys that stand in a file of their own.

use std::{fs, io::Read as _, os::unix::fs::PermissionsExt as _, path::Path};

use super::section::{Section, Text};
use crate::secret::Secret;

/// More is no secret but a wrong file name.
const MAX_BYTES: u64 = 4096;

/// Reads the first line of the section's `password_file`, if it names one.
pub(super) fn read(section: &Section<'_>) -> Option<Secret> {
    let (text, content) = content(section, "password_file")?;
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
    let (text, content) = content(section, key)?;
    let lines: Vec<Secret> = content.expose().lines().map(Secret::new).collect();
    if lines.is_empty() {
        section.document.refuse(&text.key, "its file is empty, expected a key in each line");
    }
    Some((text.key, lines))
}

/// What is in the file, which is named relative to the directory of the configuration file, so that it
/// does not depend on where we were started.
fn content(section: &Section<'_>, key: &'static str) -> Option<(Text, Secret)> {
    let text = section.text(key)?;
    let directory = section.document.file.parent().unwrap_or(Path::new(""));
    let file = directory.join(&text.value);
    let content = whole(&file);
    let is_open = fs::metadata(&file).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0);
    if is_open {
        let warning =
            format!("{}: everybody on this machine may read {}; chmod 600 it", text.key, file.display());
        section.document.warnings.borrow_mut().push(warning);
    }
    let refused = |why| section.document.refuse(&text.key, format!("{}: {why}", file.display()));
    let content = content.map_err(refused).ok()?;
    Some((text, content))
}

fn whole(file: &Path) -> Result<Secret, String> {
    let mut content = String::new();
    let opened = fs::File::open(file).map_err(|error| format!("cannot be read: {error}"))?;
    let read = opened.take(MAX_BYTES + 1).read_to_string(&mut content);
    read.map_err(|error| format!("cannot be read: {error}"))?;
    if content.len() as u64 > MAX_BYTES {
        return Err(format!("is larger than {MAX_BYTES} bytes, which no file of secrets is"));
    }
    Ok(Secret::new(content))
}
