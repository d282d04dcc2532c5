//! Addresses of the broker: `amqp://user:password@host:5672/vhost`.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use lapin::uri::{AMQPScheme, AMQPUri};

use super::{
    environment::substitute,
    password,
    section::{Section, Text},
};
use crate::{
    error::{Error, Result},
    secret::{self, Secret},
};

/// One node of the broker; prints without its password.
#[derive(Clone, PartialEq, Eq)]
pub struct AmqpUrl {
    uri: AMQPUri,
    /// Where its password stands, which may change while we run.
    password_file: Option<PathBuf>,
}

impl AmqpUrl {
    /// What lapin connects with, as it was when the configuration was read; it prints the password.
    #[must_use]
    pub fn uri(&self) -> AMQPUri {
        self.uri.clone()
    }

    /// The same, with the password that stands in its file now.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn logging_in(&self) -> Result<AMQPUri> {
        let mut uri = self.uri();
        if let Some(file) = &self.password_file {
            // Whoever changes it may be in the middle of that, so it is tried again soon.
            let password = secret::read_password(file)
                .map_err(|why| Error::Disconnected(format!("broker: connecting to {self}: {why}")))?;
            uri.authority.userinfo.password = password.expose().to_owned();
        }
        Ok(uri)
    }

    /// The file that is read for each connection.
    #[must_use]
    pub fn password_file(&self) -> Option<&Path> {
        self.password_file.as_deref()
    }

    /// Whether it is to be reached by TLS.
    #[must_use]
    pub fn is_secured(&self) -> bool {
        self.uri.scheme == AMQPScheme::AMQPS
    }
}

impl fmt::Display for AmqpUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = self.uri();
        shown.authority.userinfo.password = "xxx".to_owned();
        // The stars are put in afterwards: as a password they would be percent-encoded.
        out.write_str(&shown.to_string().replacen(":xxx@", ":***@", 1))
    }
}

impl fmt::Debug for AmqpUrl {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// Reads `urls` and `password_file` of `[broker]`.
pub(super) fn read(section: &Section<'_>) -> Vec<AmqpUrl> {
    let document = section.document;
    let texts = section.required_texts("urls", "write [\"amqp://user@host:5672/\"], or leave out [broker]");
    let password = password::read(section);
    let url = |text: Text| {
        let whole = substitute(&text.value, document.environment);
        let url = whole.and_then(|whole| parse(&whole, password.as_ref()));
        url.map_err(|why| document.refuse(&text.key, why)).ok()
    };
    texts.into_iter().filter_map(url).collect()
}

/// The parser's own errors are not passed on: they may quote the whole URL.
fn parse(text: &Secret, password: Option<&(PathBuf, Secret)>) -> Result<AmqpUrl, String> {
    let text = text.expose().trim();
    let rest = text.strip_prefix("amqp://").or_else(|| text.strip_prefix("amqps://"));
    let authority = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
    let uri = authority.and_then(|authority| Some((authority, text.parse::<AMQPUri>().ok()?)));
    let Some((authority, mut uri)) = uri else {
        return Err(
            "is not an address of a broker, expected amqp://user:password@host:5672/vhost, or amqps \
                    for TLS; percent-encode special characters in user, password and vhost"
                .to_owned(),
        );
    };
    let (user, host) = authority.rsplit_once('@').unwrap_or(("", authority));
    // The parser takes an IPv6 address for a missing host, and connects to this machine instead.
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        uri.authority.host = address.to_owned();
    }
    // Strictly this means a virtual host without a name, which nobody has; most clients take it so.
    if uri.vhost.is_empty() {
        uri.vhost = "/".to_owned();
    }
    if let Some((_, password)) = password {
        if user.contains(':') {
            return Err("holds a password, and so does password_file; remove one of them".to_owned());
        }
        uri.authority.userinfo.password = password.expose().to_owned();
    }
    Ok(AmqpUrl { uri, password_file: password.map(|(file, _)| file.clone()) })
}
