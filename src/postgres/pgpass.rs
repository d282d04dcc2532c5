//! The password file of libpq, `.pgpass`: lines of `host:port:database:user:password`.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use tokio_postgres::{Config, config::Host};

use crate::secret::{self, Secret};

/// Where libpq looks for a server when no host is named: Debian's directory, else PostgreSQL's own.
const SOCKET_DIRECTORIES: [&str; 2] = ["/var/run/postgresql", "/tmp"];

/// Thousands of lines.
const MAX_BYTES: u64 = 1 << 20;

/// What a line has to be for: host, port, database and user.
type Target = [String; 4];

/// The directory of the local server's socket, where nothing else is said.
pub(crate) fn socket_directory() -> &'static str {
    let [first, last] = SOCKET_DIRECTORIES;
    if Path::new(first).is_dir() { first } else { last }
}

/// Why the file is ignored although it is there.
pub(crate) fn unfit(file: &Path) -> Option<&'static str> {
    let metadata = fs::metadata(file).ok()?;
    if !metadata.is_file() {
        return Some("is ignored, since it is no plain file");
    }
    let is_open = metadata.permissions().mode() & 0o077 != 0;
    is_open.then_some("is ignored, since others than its owner have access to it; chmod 600 it")
}

/// The password for all hosts of this connection string, if the file has one. A file that is not there, or that
/// must not or cannot be read, has none, as for libpq.
pub(super) fn password(file: &Path, config: &Config) -> Result<Option<Secret>, String> {
    if unfit(file).is_some() {
        return Ok(None);
    }
    let Ok(text) = secret::read(file, MAX_BYTES) else { return Ok(None) };
    let mut found = targets(config).into_iter().map(|target| find(text.expose(), &target));
    let first = found.next().flatten();
    // The driver would offer one password to all of them, also to those that must not see it.
    if found.any(|other| other != first) {
        return Err(format!(
            "the hosts have different passwords in {}, and one connection string can have but one: give all of them \
             the same there, or name one host",
            file.display()
        ));
    }
    Ok(first)
}

/// The line that would have helped.
pub(super) fn missing(config: &Config) -> String {
    let target = targets(config).into_iter().next().unwrap_or_default();
    target.map(|field| field.replace('\\', "\\\\").replace(':', "\\:") + ":").concat() + "PASSWORD"
}

/// As libpq names them.
fn targets(config: &Config) -> Vec<Target> {
    let user = config.get_user().map(str::to_owned).or_else(|| whoami::username().ok()).unwrap_or_default();
    let database = config.get_dbname().unwrap_or(&user);
    let hosts: Vec<String> = match config.get_hosts() {
        [] => config.get_hostaddrs().iter().map(ToString::to_string).collect(),
        hosts => hosts.iter().map(host).collect(),
    };
    let port = |n| config.get_ports().get(n).or(config.get_ports().first()).copied().unwrap_or(5432);
    let target = |(n, host)| [host, port(n).to_string(), database.to_owned(), user.clone()];
    hosts.into_iter().enumerate().map(target).collect()
}

fn host(host: &Host) -> String {
    match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(directory) if directory == Path::new(socket_directory()) => "localhost".to_owned(),
        Host::Unix(directory) => directory.display().to_string(),
    }
}

/// The password in the first line that is for this target.
fn find(text: &str, target: &Target) -> Option<Secret> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    let password = lines.filter_map(|line| of_line(line, target)).next()?;
    // As libpq has it: such a line is found, and says that there is none.
    (!password.is_empty()).then(|| Secret::new(password))
}

fn of_line(line: &str, target: &Target) -> Option<String> {
    let mut rest = line;
    for wanted in target {
        let (field, after) = split(rest);
        if field != "*" && unescaped(field) != *wanted {
            return None;
        }
        rest = after?;
    }
    // A colon ends the password, too.
    Some(unescaped(split(rest).0))
}

/// A field as it is written, and what follows the colon behind it.
fn split(text: &str) -> (&str, Option<&str>) {
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match c {
            ':' if !escaped => return (&text[..at], Some(&text[at + 1..])),
            _ => escaped = c == '\\' && !escaped,
        }
    }
    (text, None)
}

fn unescaped(field: &str) -> String {
    let mut characters = field.chars();
    let mut whole = String::with_capacity(field.len());
    while let Some(c) = characters.next() {
        // The last one of all stands for itself.
        whole.push(if c == '\\' { characters.next().unwrap_or(c) } else { c });
    }
    whole
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the text gives for a connection string with one host.
    fn given(text: &str, url: &str) -> Option<String> {
        let config: Config = url.parse().expect("it is a connection string");
        let target = targets(&config).into_iter().next().expect("it has a host");
        find(text, &target).map(|password| password.expose().to_owned())
    }

    #[test]
    fn the_first_line_that_matches_counts() {
        let text = "# p:5432:shop:me:comment\n\nnonsense\np:5433:shop:me:port\np:5432:shop:you:user\n\
                    p:5432:shop:me:first\r\np:5432:shop:me:second\n*:*:*:*:any";
        let of = |url| given(text, url);
        assert_eq!(of("postgres://me@p/shop").as_deref(), Some("first"));
        assert_eq!(of("postgres://me@p:5433/shop").as_deref(), Some("port"));
        assert_eq!(of("postgres://you@p/shop").as_deref(), Some("user"));
        assert_eq!(of("postgres://me@p/other").as_deref(), Some("any"));
        assert_eq!(given("p:5432:shop:me", "postgres://me@p/shop"), None);
        assert_eq!(given("p:5432:shop:me:\n*:*:*:*:any", "postgres://me@p/shop"), None);
        assert_eq!(given("p:5432:me:me:own", "postgres://me@p").as_deref(), Some("own"));
        assert_eq!(given("P:*:*:*:x\np*:*:*:*:x", "postgres://me@p/shop"), None);
    }

    #[test]
    fn colons_and_backslashes_are_escaped() {
        let of = |text| given(text, r"host=::1 user='a:b\\' dbname=*");
        assert_eq!(of(r"\:\:1:*:\*:a\:b\\:p\:w\\\x:rest").as_deref(), Some(r"p:w\x"));
        assert_eq!(of(r"::1:*:*:a\:b\\:x"), None);
        assert_eq!(of(r"*:*:*:*:end\").as_deref(), Some(r"end\"));
        // An escaped asterisk is a name.
        assert_eq!(given(r"\*:*:*:*:x", "host=p user=me"), None);
        let config: Config = r"host=::1 user='a:b\\' dbname=d password=hunter2".parse().expect("it is one");
        assert_eq!(missing(&config), r"\:\:1:5432:d:a\:b\\:PASSWORD");
    }

    #[test]
    fn sockets_are_localhost_or_their_directory() {
        let text = "localhost:*:*:*:local\n/run/other:*:*:*:other\n10.0.0.1:*:*:*:address\np:*:*:*:name";
        let default = format!("host={} user=me", socket_directory());
        assert_eq!(given(text, &default).as_deref(), Some("local"));
        assert_eq!(given(text, "host=/run/other user=me").as_deref(), Some("other"));
        assert_eq!(given(text, "host=127.0.0.1 user=me"), None);
        assert_eq!(given(text, "hostaddr=10.0.0.1 user=me").as_deref(), Some("address"));
        assert_eq!(given(text, "host=p hostaddr=10.0.0.1 user=me").as_deref(), Some("name"));
        let own = format!("p:*:*:{}:own", whoami::username().expect("we are somebody"));
        assert_eq!(given(&own, "host=p dbname=shop").as_deref(), Some("own"));
    }
}
