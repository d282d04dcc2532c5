//! `initdb` once, a copy of its result ever after.

use std::{
    env,
    ffi::OsStr,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::{account::Account, port::random_hex, premises::Farewell, premises::Premises};

/// Makes `data` a fresh data directory, still to be given to `account`, and returns its superuser's password.
pub(crate) fn copy_to(data: &Path, binaries: &Path, account: Option<Account>) -> String {
    let Some(template) = cached(binaries, account) else {
        return initdb(data, binaries, account);
    };
    copy(&template.join("data"), data);
    fs::read_to_string(template.join("password")).expect("a template has its password")
}

/// The template for this version of PostgreSQL and this user, made now if it is not there. `None`
/// where there is no build directory to keep it in.
fn cached(binaries: &Path, account: Option<Account>) -> Option<PathBuf> {
    let version = Command::new(binaries.join("postgres")).arg("--version").output().expect("postgres runs");
    let version: String = String::from_utf8_lossy(&version.stdout)
        .chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || *letter == '.')
        .collect();
    let user = fs::metadata("/proc/self").expect("/proc is mounted").uid();
    let directory = build_directory()?.join("testbed");
    let template = directory.join(format!("{version}-{user}"));
    if template.exists() {
        return Some(template);
    }
    let unfinished = directory.join(format!("unfinished-{}", random_hex(5)));
    fs::create_dir_all(&unfinished).ok()?;
    fs::set_permissions(&unfinished, fs::Permissions::from_mode(0o700)).ok()?;
    // Made elsewhere: the servers' user may have no way into the build directory.
    let premises = Premises::new(account, Farewell::Kill);
    let made = premises.path().join("data");
    let password = initdb(&made, binaries, account);
    copy(&made, &unfinished.join("data"));
    fs::write(unfinished.join("password"), password).ok()?;
    // Whoever is first wins; all are alike.
    if fs::rename(&unfinished, &template).is_err() {
        let _ = fs::remove_dir_all(&unfinished);
    }
    Some(template)
}

/// Cargo's target directory, found from where the running program lies.
fn build_directory() -> Option<PathBuf> {
    let program = env::current_exe().ok()?;
    let found = program.ancestors().find(|directory| directory.join("CACHEDIR.TAG").exists())?;
    Some(found.to_owned())
}

fn initdb(data: &Path, binaries: &Path, account: Option<Account>) -> String {
    let password = random_hex(16);
    let password_file = data.with_extension("password");
    fs::write(&password_file, verifier(&password)).expect("the password can be written");
    if let Some(account) = account {
        account.own(&password_file);
    }
    let mut command = Command::new(binaries.join("initdb"));
    command
        .args([
            "--no-sync",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--username=postgres",
        ])
        .args([OsStr::new("--pwfile"), password_file.as_os_str(), OsStr::new("-D"), data.as_os_str()])
        .current_dir(data.parent().expect("a data directory is in a directory"));
    if let Some(account) = account {
        account.run(&mut command);
    }
    let done = command.output().unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
    assert!(done.status.success(), "initdb: {}", String::from_utf8_lossy(&done.stderr));
    let _ = fs::remove_file(&password_file);
    password
}

/// What PostgreSQL keeps of a password for SCRAM (RFC 5802, section 3), with one iteration instead of 4096: it was drawn
/// at random, and the tests connect thousands of times.
fn verifier(password: &str) -> String {
    let salt = random_hex(8).into_bytes();
    let salted = hmac(password.as_bytes(), &[&salt[..], &[0, 0, 0, 1]].concat());
    let stored_key = Sha256::digest(hmac(&salted, b"Client Key"));
    let server_key = hmac(&salted, b"Server Key");
    let [salt, stored_key, server_key] =
        [&salt[..], &stored_key[..], &server_key[..]].map(|bytes| BASE64_STANDARD.encode(bytes));
    format!("SCRAM-SHA-256$1:{salt}${stored_key}:{server_key}")
}

fn hmac(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut hmac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    hmac.update(text);
    hmac.finalize().into_bytes().to_vec()
}

/// A copy on write where the file system can do that: 40 MB in no time.
pub(crate) fn copy(from: &Path, to: &Path) {
    let copied =
        Command::new("cp").args(["-r", "--preserve=mode", "--reflink=auto"]).arg(from).arg(to).status();
    assert!(copied.is_ok_and(|status| status.success()), "copying {} failed", from.display());
}
