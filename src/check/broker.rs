//! The broker: every node, and what replication does there, tried.

use std::net::ToSocketAddrs as _;

use lapin::{Connection, protocol::AMQPSoftError};

use super::Findings;
use crate::{
    broker::{
        connect, is_soft,
        trial::{MESSAGES, is_forbidden, try_exchange, try_queues},
    },
    config::{self, AmqpUrl, Config},
    error::{Error, Result},
    publisher::BLOCKED,
};

/// What only the broker's own machine tells.
const CONSUMER_TIMEOUT: &str = "its consumer_timeout can't be asked for from here: rabbitmqctl eval \
    'application:get_env(rabbit, consumer_timeout).' tells it, in milliseconds; 1800000, as where nobody set it, is enough \
    for most";

/// What is found at the broker, if there is one.
pub(super) async fn check(config: &Config) -> Option<Findings> {
    let broker = config.broker.as_ref()?;
    let mut findings = Findings::at("broker");
    let mut answering = None;
    for url in &broker.urls {
        let node = config::Broker { urls: vec![url.clone()], ..broker.clone() };
        match connect(&node, "pgfanout check").await {
            Ok(connection) => {
                findings.ok("connection", format!("{url} answers"));
                judge_link(url, &mut findings);
                answering.get_or_insert((connection, url));
            }
            Err(error) => {
                let remedy =
                    "see that the node runs, is reached from here, and knows this user and virtual host";
                findings.error("connection", error.chain(), remedy);
            }
        }
    }
    if let Some((connection, url)) = answering {
        attempt(&connection, url, config, broker, &mut findings).await;
    }
    Some(findings)
}

async fn attempt(
    connection: &Connection,
    url: &AmqpUrl,
    config: &Config,
    broker: &config::Broker,
    findings: &mut Findings,
) {
    let replicas: Vec<String> = config.replicas.iter().map(|replica| replica.name.clone()).collect();
    let tried = try_exchange(connection, broker).await;
    let is_blocked = matches!(tried, Err(Error::Blocked));
    let kept = tried.as_ref().copied().unwrap_or(MESSAGES);
    let exchange = judge(tried.map(drop), url, broker, findings);
    if is_blocked {
        return;
    }
    if kept < MESSAGES {
        findings.warning(
            "policies",
            format!(
                "of {MESSAGES} messages in a queue named like those of the replicas it keeps {kept}: a policy limits them, \
                 and replicas read from the primary what it drops"
            ),
            format!("rabbitmqctl list_policies shows it; let none be for queues called {}.*", broker.exchange),
        );
    }
    let queues = judge(try_queues(connection, broker, &replicas).await, url, broker, findings);
    if exchange && queues {
        let text = format!("the user may do all that is needed with {}", broker.exchange);
        findings.ok("permissions", text);
        if kept > 0 {
            let text = format!(
                "a message of {} bytes (max_message_bytes) was stored and read",
                broker.max_message_bytes
            );
            findings.ok("limits", text);
            findings.ok("limits", CONSUMER_TIMEOUT);
        }
    }
}

/// Whether it went well.
fn judge(tried: Result<()>, url: &AmqpUrl, broker: &config::Broker, findings: &mut Findings) -> bool {
    let Err(error) = tried else { return true };
    let text = error.chain();
    if matches!(error, Error::Blocked) {
        findings.error("alarms", BLOCKED, "free memory or disk there: rabbitmq-diagnostics alarms");
    } else if is_forbidden(&error) {
        let uri = url.uri();
        let remedy = permission(&uri.vhost, &uri.authority.userinfo.username, &broker.exchange);
        findings.error("permissions", text, remedy);
    } else if is_soft(&error, AMQPSoftError::PRECONDITIONFAILED) {
        let remedy = "raise max_message_size in its rabbitmq.conf, or lower max_message_bytes here";
        findings.error("limits", text, remedy);
    } else {
        findings.add(super::Level::Error, "settings", text, None);
    }
    false
}

/// The command that gives a user the rights that are needed, and no more.
fn permission(vhost: &str, user: &str, exchange: &str) -> String {
    // Only these are special in a pattern among what names have.
    let escaped: String = exchange
        .chars()
        .flat_map(|c| [Some('\\').filter(|_| r"\.+*?()|[]{}^$".contains(c)), Some(c)])
        .flatten()
        .collect();
    let pattern = shell(&format!(r"^({escaped}(\..*)?|amq\.default)$"));
    let (vhost, user) = (shell(vhost), shell(user));
    format!("rabbitmqctl set_permissions -p {vhost} {user} {pattern} {pattern} {pattern}")
}

/// Quoted for a shell.
fn shell(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn judge_link(url: &AmqpUrl, findings: &mut Findings) {
    let authority = url.uri().authority;
    let is_local = (authority.host.as_str(), authority.port)
        .to_socket_addrs()
        .is_ok_and(|mut addresses| addresses.all(|address| address.ip().is_loopback()));
    match (url.is_secured(), is_local) {
        (true, _) => findings.ok("tls", "in use"),
        (false, true) => findings.ok("tls", "none, and the node is on this machine"),
        (false, false) => findings.warning(
            "tls",
            format!("{url}: passwords and rows may be read and altered on their way"),
            "a listener for TLS there, and amqps:// in urls here",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_for_patterns_and_shells() {
        assert_eq!(
            permission("/v", "o'x", "a.b+c"),
            r"rabbitmqctl set_permissions -p '/v' 'o'\''x' '^(a\.b\+c(\..*)?|amq\.default)$' ".to_owned()
                + r"'^(a\.b\+c(\..*)?|amq\.default)$' '^(a\.b\+c(\..*)?|amq\.default)$'"
        );
    }
}
