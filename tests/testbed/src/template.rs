//! `initdb` once, a copy of its result ever after.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::Write as _,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Command, Stdio},
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
    let version: String = version_text(binaries)
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

fn version_text(binaries: &Path) -> String {
    let output = Command::new(binaries.join("postgres")).arg("--version").output().expect("postgres runs");
    String::from_utf8(output.stdout).expect("a version in ASCII")
}

/// The major version of the PostgreSQL in this directory, from `postgres (PostgreSQL) 15.18 (Debian …)`.
pub(crate) fn version(binaries: &Path) -> u32 {
    let text = version_text(binaries);
    let number =
        text.split_once(") ").and_then(|(_, number)| number.split(|c: char| !c.is_ascii_digit()).next());
    number.and_then(|number| number.parse().ok()).unwrap_or_else(|| panic!("{text} tells no version"))
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
    fs::write(&password_file, &password).expect("the password can be written");
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
    set_verifier(&password, data, binaries, account);
    password
}

/// By a server without users, as initdb of PostgreSQL 13 reads no more than 99 bytes of a password file.
fn set_verifier(password: &str, data: &Path, binaries: &Path, account: Option<Account>) {
    let mut command = Command::new(binaries.join("postgres"));
    command.args(["--single", "-F", "-D"]).arg(data).arg("postgres").current_dir(data);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    if let Some(account) = account {
        account.run(&mut command);
    }
    let mut server = command.spawn().unwrap_or_else(|error| panic!("starting {command:?}: {error}"));
    let statement = format!("ALTER ROLE postgres PASSWORD '{}'\n", verifier(password));
    server.stdin.take().expect("it is piped").write_all(statement.as_bytes()).expect("it reads");
    let done = server.wait_with_output().expect("it ends with its input");
    let said = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success() && !said.contains("ERROR"), "setting the password: {said}");
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
