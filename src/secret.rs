//! Text that must not reach a log line, an error or a terminal.

use std::{fmt, fs, io::Read as _, path::Path};

/// More is no password.
const MAX_PASSWORD_BYTES: u64 = 4096;

/// A password, or a text with one in it: prints as `***`, in `Debug` and in `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the text into custody.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one who logs in with it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("***")
    }
}

/// The whole text of a file of so many bytes at most: more is no such file but a wrong name.
///
/// # Errors
/// Why it cannot be had, with the file's name.
pub fn read(path: &Path, most: u64) -> Result<Secret, String> {
    let mut content = String::new();
    let read = fs::File::open(path).and_then(|opened| opened.take(most + 1).read_to_string(&mut content));
    read.map_err(|error| format!("{}: cannot be read: {error}", path.display()))?;
    if content.len() as u64 > most {
        return Err(format!("{}: is larger than {most} bytes, which no such file is", path.display()));
    }
    Ok(Secret(content))
}

/// The first line of a file, which is a password. As it is read again and again, it cannot be a pipe.
///
/// # Errors
/// Why there is none, with the file's name.
pub fn read_password(path: &Path) -> Result<Secret, String> {
    let refused = |why| Err(format!("{}: {why}", path.display()));
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return refused("is no plain file, expected one, since it is read more than once");
    }
    match read(path, MAX_PASSWORD_BYTES)?.expose().lines().next() {
        None | Some("") => refused("its first line is empty, expected the password there"),
        Some(password) => Ok(Secret::new(password)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_prints_as_stars_and_is_still_there() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?} {:?}", Some(&secret)), "*** *** Some(***)");
        assert_eq!(secret.expose(), "hunter2");
    }
}
