//! What the demonstration prints: words, with colours on a terminal only.

use std::{
    env,
    io::{IsTerminal, stdout},
    sync::LazyLock,
};

use tokio_postgres::{Client, SimpleQueryMessage};

static COLOURS: LazyLock<bool> =
    LazyLock::new(|| stdout().is_terminal() && env::var_os("NO_COLOR").is_none());

fn coloured(code: &str, text: &str) -> String {
    if *COLOURS { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

/// A new part of the show.
pub(crate) fn title(text: &str) {
    println!("\n{}", coloured("1;36", &format!("== {text}")));
}

/// What is shown, in words.
pub(crate) fn text(text: &str) {
    println!("{text}");
}

/// A fact, as a server or pgfanout gave it.
pub(crate) fn fact(text: &str) {
    println!("   {text}");
}

/// What is done to a server.
pub(crate) fn action(text: &str) {
    println!("   {}", coloured("33", text));
}

/// Something that is now as it should be.
pub(crate) fn good(text: &str) {
    println!("   {}", coloured("32", text));
}

/// A number with its thousands apart.
pub(crate) fn number(value: u64) -> String {
    let digits = value.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

/// The rows of a query in one line, such as `(1, bob) (2, al)`.
pub(crate) async fn rows(client: &Client, query: &str) -> Result<String, tokio_postgres::Error> {
    let row = |message| match message {
        SimpleQueryMessage::Row(row) => {
            let values: Vec<_> = (0..row.len()).map(|column| row.get(column).unwrap_or("null")).collect();
            Some(format!("({})", values.join(", ")))
        }
        _ => None,
    };
    let rows: Vec<_> = client.simple_query(query).await?.into_iter().filter_map(row).collect();
    Ok(if rows.is_empty() { "no rows".to_owned() } else { rows.join(" ") })
}
