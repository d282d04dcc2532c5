//! The first act: an INSERT, an UPDATE and a DELETE on their way.

use std::time::Instant;

use crate::{listener::Listener, show, stage::Stage};

/// The statements of the design, and how many rows each changes.
const STATEMENTS: [(&str, usize); 3] = [
    ("INSERT INTO users (id, name) VALUES (1, 'bob'), (2, 'al')", 2),
    ("UPDATE users SET name = 'alfonso' WHERE id = 2", 1),
    ("DELETE FROM users WHERE id = 1", 1),
];

pub(crate) async fn show(stage: &mut Stage) {
    show::title("INSERT, UPDATE and DELETE");
    let mut listener = Listener::start(&stage.broker).await;
    let clients = stage.clients().await;
    let (primary, [replica1, replica2]) = &clients;
    for (statement, changes) in STATEMENTS {
        show::text(&format!("\nOn the primary:  {statement}"));
        let started = Instant::now();
        primary.batch_execute(statement).await.expect("the table takes it");
        stage.wait_for_tables_with(&clients, &["users"]).await;
        let took = started.elapsed();
        show::text("A listener on the exchange receives:");
        listener.changes(changes).await.iter().for_each(|change| show::fact(change));
        show::text("The replicas hold:");
        for (name, replica) in [("replica1", replica1), ("replica2", replica2)] {
            let rows = show::rows(replica, "SELECT id, name FROM users ORDER BY id").await;
            show::fact(&format!("{name}  {}", rows.expect("the table is there")));
        }
        show::good(&format!("Seen on both {} ms after the statement began.", took.as_millis()));
    }
}
