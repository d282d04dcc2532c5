//! `[broker]`

use super::{
    Broker, Compression, QueueType,
    amqp_url::{self, AmqpUrl},
    environment::substitute,
    password,
    section::{Section, Text},
    tls,
};
use std::time::Duration;

use crate::secret::Secret;

const QUEUE_TYPE: [(&str, QueueType); 2] = [("classic", QueueType::Classic), ("quorum", QueueType::Quorum)];

const COMPRESSION: [(&str, Compression); 2] = [("none", Compression::None), ("zstd", Compression::Zstd)];

/// AMQP names are short strings of 255 bytes, and a queue's name is this, a dot and a replica's name.
const MAX_EXCHANGE_BYTES: usize = 127;

/// What RabbitMQ takes at the very most, whatever its own configuration says.
const MAX_MESSAGE_BYTES: u64 = 512 << 20;

/// Shorter keys can be found by trying.
const MIN_KEY_BYTES: usize = 16;

pub(super) fn read(section: &Section<'_>) -> Option<Broker> {
    let urls = amqp_url::read(section);
    let tls = tls::of_broker(section, urls.iter().any(AmqpUrl::is_secured));
    let exchange = exchange(section);
    let max_changes = section.integer("max_changes_per_message", 5000, 1..=1_000_000);
    let max_message_bytes = section.integer("max_message_bytes", 1 << 20, 1 << 10..=MAX_MESSAGE_BYTES);
    let queue_type = section.choice("queue_type", &QUEUE_TYPE).unwrap_or(QueueType::Classic);
    let queue_max_bytes = section.integer("queue_max_bytes", 1 << 30, 1 << 20..=1 << 50);
    let confirm_window = section.integer("confirm_window", 64, 1..=10_000);
    let linger = section.integer("linger_ms", 100, 0..=10_000);
    let compression = section.choice("compression", &COMPRESSION).unwrap_or(Compression::None);
    let hmac_keys = hmac_keys(section);
    section.finish();
    Some(Broker {
        urls,
        tls,
        exchange,
        max_changes_per_message: u32::try_from(max_changes).ok()?,
        max_message_bytes,
        queue_type,
        queue_max_bytes,
        confirm_window: usize::try_from(confirm_window).ok()?,
        linger: Duration::from_millis(linger),
        compression,
        hmac_keys,
    })
}

/// From `hmac_key_file`, a key a line, or the one of `hmac_key`.
fn hmac_keys(section: &Section<'_>) -> Vec<Secret> {
    let (given, file) = (section.text("hmac_key"), password::read_lines(section, "hmac_key_file"));
    let given = given.and_then(|Text { key, value }| {
        let whole = substitute(&value, section.document.environment);
        whole.map(|whole| (key.clone(), vec![whole])).map_err(|why| section.document.refuse(&key, why)).ok()
    });
    if let (Some((key, _)), Some(_)) = (&given, &file) {
        section.document.refuse(key, "stands beside hmac_key_file; remove one of them");
    }
    let Some((key, keys)) = given.or(file) else { return Vec::new() };
    if keys.iter().any(|key| key.expose().len() < MIN_KEY_BYTES) {
        let why = format!(
            "holds a key of less than {MIN_KEY_BYTES} bytes; make a good one with: openssl rand -hex 32"
        );
        section.document.refuse(&key, why);
    }
    keys
}

fn exchange(section: &Section<'_>) -> String {
    let Some(text) = section.text("exchange") else { return "replication".to_owned() };
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || "_.:-".contains(c);
    let fits = (1..=MAX_EXCHANGE_BYTES).contains(&text.value.len()) && text.value.chars().all(is_allowed);
    if !fits {
        let why =
            format!("found {:?}, expected 1 to {MAX_EXCHANGE_BYTES} of A-Z a-z 0-9 _ . : -", text.value);
        section.document.refuse(&text.key, why);
    } else if text.value.starts_with("amq.") {
        let why = format!("found {:?}, but amq. is reserved by the broker; choose another name", text.value);
        section.document.refuse(&text.key, why);
    }
    text.value
}
