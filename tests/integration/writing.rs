//! Random transactions against the tables of the tests of exactness.

use tokio_postgres::{Client, error::SqlState};

/// What may happen to concurrent writers: each other's deadlocks and conflicts, and a TRUNCATE of a table
/// whose deferred constraints wait.
const USUAL: [SqlState; 5] = [
    SqlState::T_R_DEADLOCK_DETECTED,
    SqlState::T_R_SERIALIZATION_FAILURE,
    SqlState::UNIQUE_VIOLATION,
    SqlState::FOREIGN_KEY_VIOLATION,
    SqlState::OBJECT_IN_USE,
];

/// A writer and its dice.
pub(crate) struct Writer {
    random: fastrand::Rng,
}

impl Writer {
    /// A writer that writes the same again for the same seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self { random: fastrand::Rng::with_seed(seed) }
    }

    /// One time in so many.
    fn once_in(&mut self, many: u32) -> bool {
        self.random.u32(0..many) == 0
    }

    fn id(&mut self) -> i32 {
        self.random.i32(1..40)
    }

    fn word(&mut self) -> &'static str {
        let words = ["", " ", "a", "A ", "two words", "(\",\\", "ä€", "NULL", "line\nfeed", "{x,y}", "a\t"];
        self.random.choice(words).unwrap_or_default()
    }

    fn statement(&mut self) -> String {
        let (a, b, v, word) = (self.id(), self.id(), self.random.i32(0..1000), self.word());
        match self.random.u32(0..27) {
            0 => format!(
                "INSERT INTO plain VALUES ({a}, {v}, $w${word}$w$) ON CONFLICT (id) DO UPDATE SET v = excluded.v"
            ),
            1 => format!("UPDATE plain SET v = v + 1, note = $w${word}$w$ WHERE id BETWEEN {a} AND {a} + 5"),
            2 => format!("DELETE FROM plain WHERE id IN ({a}, {b})"),
            3 => format!("UPDATE plain SET id = -id WHERE id IN ({a}, -{b})"),
            4 => format!(
                "WITH d AS (DELETE FROM plain WHERE id = {a} RETURNING *) INSERT INTO plain SELECT id, v + 1000, note FROM d"
            ),
            5 => format!(
                "INSERT INTO plain SELECT n, {v}, 'many' FROM generate_series(1000, 1200) n ON CONFLICT (id) DO UPDATE SET v = excluded.v"
            ),
            6 => "DELETE FROM plain WHERE id >= 1000".to_owned(),
            7 => format!(
                "WITH p AS (INSERT INTO parent VALUES ({a}, {v}) ON CONFLICT DO NOTHING), \
                 q AS (UPDATE word SET n = n + 1000 WHERE word = $w${word}$w$) \
                 INSERT INTO child VALUES ({v}, {a}, {b}) ON CONFLICT (id) DO UPDATE SET v = child.v + 1"
            ),
            8 => format!("DELETE FROM parent WHERE id = {a}"),
            9 => format!("UPDATE parent SET id = -id, v = {v} WHERE id IN ({a}, -{b})"),
            10 => format!("DELETE FROM child WHERE parent BETWEEN {a} AND {a} + 3"),
            // A parent that comes after its child.
            11 => format!(
                "INSERT INTO tree VALUES ({a}, {b}, {v}) ON CONFLICT DO NOTHING; INSERT INTO tree VALUES ({b}, NULL, 0) ON CONFLICT DO NOTHING"
            ),
            12 => format!("UPDATE tree SET id = -id WHERE id IN ({a}, -{b})"),
            13 => format!("DELETE FROM tree WHERE id IN ({a}, -{b})"),
            14 => format!(
                "INSERT INTO word VALUES ($w${word}$w$, {v}) ON CONFLICT (word) DO UPDATE SET n = excluded.n"
            ),
            15 => format!("DELETE FROM word WHERE word = $w${word}$w$ OR n = {v}"),
            // The one takes the other's unique value.
            16 => format!(
                "WITH d AS (DELETE FROM word WHERE word <> $w${word}$w$ RETURNING n) UPDATE word SET n = -{v} WHERE word = $w${word}$w$"
            ),
            17 => format!(
                r#"INSERT INTO "Two Keys" VALUES ({a}, $w${word}$w$, {v}.{b}0) ON CONFLICT ("a key", tag) DO UPDATE SET v = "Two Keys".v / 7"#
            ),
            18 => format!(
                r#"UPDATE "Two Keys" SET tag = tag || $w${word}$w$ WHERE "a key" = {a} AND length(tag) < 50"#
            ),
            19 => format!(r#"DELETE FROM "Two Keys" WHERE "a key" = {a} OR length(tag) > 40"#),
            20 => format!(
                "INSERT INTO swapped SELECT {a}, {v} WHERE NOT EXISTS (SELECT FROM swapped WHERE id = {a})"
            ),
            21 => format!("UPDATE swapped SET id = {} - id WHERE id IN ({a}, {b})", a + b),
            22 => format!(
                "INSERT INTO region VALUES ({a}, {}, $w${word}$w$) ON CONFLICT (id, k) DO UPDATE SET v = excluded.v || {v}",
                b % 3
            ),
            23 => format!("UPDATE region SET k = (k + {}) % 3 WHERE id IN ({a}, {b})", v % 3),
            24 => format!(
                "DELETE FROM region WHERE id IN ({a}, {b}); UPDATE region_{} SET v = v || 'x' WHERE id < {a}",
                v % 3
            ),
            25 => format!("INSERT INTO counted VALUES ({a}, {v}) ON CONFLICT (id) DO UPDATE SET v = {b}"),
            _ => format!(
                "DELETE FROM counted WHERE id = {a}; UPDATE counted SET v = v + 1, id = -id WHERE id = {b}"
            ),
        }
    }

    fn truncate(&mut self) -> &'static str {
        let tables = [
            "plain, word",
            "parent CASCADE",
            "region",
            "region_1",
            "region_2",
            "swapped, \"Two Keys\"",
            "tree, counted",
        ];
        self.random.choice(tables).unwrap_or_default()
    }
}

/// Runs one random transaction: some are long, some come to nothing.
pub(crate) async fn transaction(client: &Client, writer: &mut Writer) {
    if let Err(error) = steps(client, writer).await {
        assert!(error.code().is_some_and(|code| USUAL.contains(code)), "a writer failed: {error:?}");
        client.batch_execute("ROLLBACK").await.unwrap();
    }
}

async fn steps(client: &Client, writer: &mut Writer) -> Result<(), tokio_postgres::Error> {
    client.batch_execute("BEGIN").await?;
    for _ in 0..writer.random.u32(1..6) {
        let statement = match writer.once_in(150) {
            true => format!("TRUNCATE {}", writer.truncate()),
            false => writer.statement(),
        };
        if writer.once_in(4) {
            // PostgreSQL gives what follows an id of its own; the transaction's is meant to be logged.
            let inside = writer.statement();
            let end = if writer.once_in(2) { "ROLLBACK TO s" } else { "RELEASE s" };
            client.batch_execute(&format!("SAVEPOINT s; {inside}; {end}")).await?;
        }
        client.batch_execute(&statement).await?;
        if writer.once_in(20) {
            client.batch_execute(&format!("SELECT pg_sleep({})", writer.random.f64() / 3.0)).await?;
        }
    }
    let end = if writer.once_in(5) { "ROLLBACK" } else { "COMMIT" };
    client.batch_execute(end).await
}
