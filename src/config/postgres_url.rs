//! Connection strings of PostgreSQL: `postgres://…` and `key=value …`.

use std::path::PathBuf;

use tokio_postgres::config::{Config, Host};

use super::{document::Document, environment::substitute, password, section::Section, tls};
use crate::{
    postgres::{Database, Password, pgpass},
    secret::Secret,
};

/// Options that libpq has and we have not. Their names are harmless: any other word in an error of
/// the parser may be a piece of a password that was not quoted.
const ONLY_LIBPQ: [&str; 14] = [
    "client_encoding",
    "fallback_application_name",
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "krbsrvname",
    "passfile",
    "replication",
    "require_auth",
    "requirepeer",
    "service",
    "sslcompression",
    "sslcrl",
    "sslpassword",
];

/// Those that are keys of the section.
const KEYS: [&str; 3] = ["sslcert", "sslkey", "sslrootcert"];

/// Reads `url`, `password_file` and the keys of TLS of a section. `name` is what errors call the database.
pub(super) fn read(section: &Section<'_>, name: &str) -> Option<Database> {
    let url = section.required_text("url", "write postgres://user@host:5432/database");
    let password_file = password::read(section).map(|(path, _)| path);
    let (document, url) = (section.document, url?);
    let parsed = substitute(&url.value, document.environment).and_then(|text| parse(&text));
    let completed = parsed.and_then(|config| complete(config, password_file, document));
    let connection = completed.and_then(|(config, password)| {
        password.now(&config)?;
        Ok((tls::of_postgres(section, &config)?, config, password))
    });
    let (tls, config, password) = connection.map_err(|why| document.refuse(&url.key, why)).ok()?;
    Some(Database::new(name, config).secured(tls).with_password(password))
}

fn parse(text: &Secret) -> Result<Config, String> {
    let text = text.expose().trim();
    let is_url = text.starts_with("postgres://") || text.starts_with("postgresql://");
    if !is_url && !text.contains('=') {
        return Err("found neither a URL nor key=value pairs, \
                    expected postgres://user@host:5432/database or host=… dbname=…"
            .to_owned());
    }
    let config: Config = text.parse().map_err(|error| explain(&error))?;
    // A password with an @ of its own ends there, and its rest would be shown as the host.
    if config.get_hosts().iter().any(|host| matches!(host, Host::Tcp(name) if name.contains('@'))) {
        return Err("has an @ in its host; write %40 for an @ in a password".to_owned());
    }
    Ok(config)
}

/// What the parser did not like. Only its words about options are passed on.
fn explain(error: &tokio_postgres::Error) -> String {
    let reason = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
    let quoted = reason.split('`').nth(1).unwrap_or_default();
    if quoted == "sslmode" {
        return "found an sslmode that a url may not have, expected disable, prefer or require; write the others as a \
                key of their own: sslmode = \"verify-full\""
            .to_owned();
    }
    if reason.starts_with("invalid value for option") {
        return format!(
            "the value of {quoted} is not valid; mend it, and percent-encode / : ? @ in a URL's password"
        );
    }
    if KEYS.contains(&quoted) {
        return format!("has the option {quoted}; write it as a key of its own: {quoted} = \"FILE\"");
    }
    if ONLY_LIBPQ.contains(&quoted) {
        return format!("the option {quoted} is not supported; leave it out");
    }
    "is not a connection string, expected postgres://user@host:5432/database or host=… dbname=…; \
     percent-encode special characters in a URL, quote values with blanks ('…')"
        .to_owned()
}

/// Adds what libpq would: the password from elsewhere, the local socket.
fn complete(
    mut config: Config,
    password_file: Option<PathBuf>,
    document: &Document<'_>,
) -> Result<(Config, Password), String> {
    if password_file.is_some() && config.get_password().is_some() {
        return Err("holds a password, and so does password_file; remove one of them".to_owned());
    }
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        config.host_path(pgpass::socket_directory());
    }
    let (hosts, ports) =
        (config.get_hosts().len().max(config.get_hostaddrs().len()), config.get_ports().len());
    if ports > 1 && ports != hosts {
        return Err(format!(
            "names {hosts} hosts and {ports} ports, expected one port, or one for each host"
        ));
    }
    let password = password(&mut config, password_file, document);
    Ok((config, password))
}

/// As for libpq, what is empty is not there.
fn password(config: &mut Config, file: Option<PathBuf>, document: &Document<'_>) -> Password {
    let variable = |name| (document.environment)(name).filter(|value| !value.is_empty());
    if let Some(file) = file {
        return Password::File(file);
    }
    if config.get_password().is_some_and(|password| !password.is_empty()) {
        return Password::Given;
    }
    if let Some(password) = variable("PGPASSWORD") {
        config.password(password);
        return Password::Given;
    }
    let named = variable("PGPASSFILE").map(PathBuf::from);
    let file = named.or_else(|| variable("HOME").map(|home| PathBuf::from(home).join(".pgpass")));
    let Some(file) = file else { return Password::Given };
    if let Some(why) = pgpass::unfit(&file) {
        let warning = format!("{}: {why}", file.display());
        let mut warnings = document.warnings.borrow_mut();
        if !warnings.contains(&warning) {
            warnings.push(warning);
        }
    }
    Password::PgPass(file)
}

/// The databases a connection string may lead to, as far as it shows: host, port and database. Names
/// of this machine are one host.
pub(super) fn targets(config: &Config) -> Vec<(String, u16, String)> {
    let database = config.get_dbname().or(config.get_user()).unwrap_or_default();
    let hosts: Vec<String> = match config.get_hostaddrs() {
        [] => config.get_hosts().iter().map(host).collect(),
        addresses => addresses.iter().map(|address| local(&address.to_string())).collect(),
    };
    let port = |n| config.get_ports().get(n).or(config.get_ports().first()).copied().unwrap_or(5432);
    hosts.into_iter().enumerate().map(|(n, host)| (host, port(n), database.to_owned())).collect()
}

fn host(host: &Host) -> String {
    match host {
        Host::Tcp(name) => local(name),
        Host::Unix(directory) => directory.display().to_string(),
    }
}

fn local(name: &str) -> String {
    let name = name.to_ascii_lowercase();
    if matches!(name.as_str(), "127.0.0.1" | "::1") { "localhost".to_owned() } else { name }
}
