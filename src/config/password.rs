//! Passwords that stand in a file of their own.

use std::{fs, io::Read as _, os::unix::fs::PermissionsExt as _, path::Path};

use super::section::Section;
use crate::secret::Secret;

/// More is no password but a wrong file name.
const MAX_BYTES: u64 = 4096;

/// Reads the first line of the section's `password_file`, if it names one; relative to the
/// directory of the configuration file, so that it does not depend on where we were started.
pub(super) fn read(section: &Section<'_>) -> Option<Secret> {
    let text = section.text("password_file")?;
    let directory = section.document.file.parent().unwrap_or(Path::new(""));
    let file = directory.join(&text.value);
    let password = first_line(&file);
    let is_open = fs::metadata(&file).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0);
    if is_open {
        let warning =
            format!("{}: everybody on this machine may read {}; chmod 600 it", text.key, file.display());
        section.document.warnings.borrow_mut().push(warning);
    }
    password.map_err(|why| section.document.refuse(&text.key, format!("{}: {why}", file.display()))).ok()
}

fn first_line(file: &Path) -> Result<Secret, String> {
    let mut content = String::new();
    let opened = fs::File::open(file).map_err(|error| format!("cannot be read: {error}"))?;
    let read = opened.take(MAX_BYTES + 1).read_to_string(&mut content);
    read.map_err(|error| format!("cannot be read: {error}"))?;
    if content.len() as u64 > MAX_BYTES {
        return Err(format!("is larger than {MAX_BYTES} bytes, expected a password in its first line"));
    }
    match content.lines().next() {
        None | Some("") => Err("its first line is empty, expected the password there".to_owned()),
        Some(password) => Ok(Secret::new(password)),
    }
}
