//! Files that a configuration names: passwords, keys and certificates.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use super::section::{Section, Text};
use crate::secret::{self, Secret};

/// A system's list of authorities has some 200 kB.
const MAX_BYTES: u64 = 16 << 20;

/// The content of the file that `key` names, if it does: a secret, which not everybody may read, of so many bytes at most:
/// more is no secret but a wrong file name.
pub(super) fn secret(section: &Section<'_>, key: &'static str, most: u64) -> Option<(Text, Secret)> {
    let (text, path) = of_secret(section, key)?;
    let content = content(section, &text, &path, most)?;
    Some((text, content))
}

/// The file that `key` names, if it does, which not everybody may read.
pub(super) fn of_secret(section: &Section<'_>, key: &'static str) -> Option<(Text, PathBuf)> {
    let (text, path) = named(section, key)?;
    let is_open = fs::metadata(&path).is_ok_and(|metadata| metadata.permissions().mode() & 0o004 != 0);
    if is_open {
        let warning =
            format!("{}: everybody on this machine may read {}; chmod 600 it", text.key, path.display());
        section.document.warnings.borrow_mut().push(warning);
    }
    Some((text, path))
}

/// The content of the file that `key` names, if it does, which everybody may read.
pub(super) fn public(section: &Section<'_>, key: &'static str) -> Option<(Text, String)> {
    let (text, path) = named(section, key)?;
    let content = content(section, &text, &path, MAX_BYTES)?;
    Some((text, content.expose().to_owned()))
}

/// The path is relative to the directory of the configuration file, so that it does not depend on where we
/// were started.
fn named(section: &Section<'_>, key: &'static str) -> Option<(Text, PathBuf)> {
    let text = section.text(key)?;
    let directory = section.document.file.parent().unwrap_or(Path::new(""));
    let path = directory.join(&text.value);
    Some((text, path))
}

fn content(section: &Section<'_>, text: &Text, path: &Path, most: u64) -> Option<Secret> {
    secret::read(path, most).map_err(|why| section.document.refuse(&text.key, why)).ok()
}
