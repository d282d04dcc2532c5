//! Our schema on a replica: put there, and kept current.

use super::state::begin;
use crate::{
    error::{Error, Result},
    postgres::Session,
};

/// The version of our schema on a replica: raised where an older program could not work with it.
const VERSION: i32 = 1;

/// What is there, made in one transaction whenever any of it changed; harmless where some of it is there. The views
/// for who watches are what `status` asks, without what names moments of our history; columns may be added to them at
/// the end.
const SCHEMA: &str = concat!(
    include_str!("../../sql/replica/install.sql"),
    include_str!("../../sql/replica/wait_for.sql"),
    include_str!("../../sql/row_bytes.sql"),
    include_str!("../../sql/chars.sql"),
    "CREATE SCHEMA IF NOT EXISTS pgfanout_status;\n\
     CREATE OR REPLACE VIEW pgfanout_status.replica AS SELECT p.paused, s.applied_to, s.snapshot, s.batch, \
     s.applied_at, s.seconds_ago FROM (\n",
    include_str!("../../sql/replica/is_paused.sql"),
    ") p CROSS JOIN (\n",
    include_str!("../../sql/replica/status_position.sql"),
    ") s;\nCREATE OR REPLACE VIEW pgfanout_status.tables AS SELECT s.id, s.name, s.apart, s.phase, s.rows, \
     s.rows_expected, s.bytes, s.bytes_expected, s.rows_per_second, s.bytes_per_second FROM (\n",
    include_str!("../../sql/replica/status_tables.sql"),
    ") s;\nCREATE OR REPLACE VIEW pgfanout_status.isolated_tables AS\n",
    include_str!("../../sql/replica/isolated_tables.sql"),
    ";\nCREATE OR REPLACE VIEW pgfanout_status.verified_tables AS\n",
    include_str!("../../sql/replica/verified_tables.sql"),
    ";\nGRANT USAGE ON SCHEMA pgfanout_status TO pg_monitor;\n\
     GRANT SELECT ON ALL TABLES IN SCHEMA pgfanout_status TO pg_monitor;\n",
);

/// Makes what is missing of our schema, and renews what is older. Only who has the seat may do so.
///
/// # Errors
/// When what is there is newer than this program, which then changes nothing; or the link breaks.
pub(super) async fn install(session: &Session) -> Result<()> {
    let present = "SELECT to_regclass('pgfanout.replica_installation') IS NOT NULL";
    if session.query_one("looking for our schema", present, &[]).await?.get(0) {
        // By the row, which may have no such column yet.
        let statement = "SELECT i.version, to_jsonb(i) ->> 'source' IS NOT DISTINCT FROM md5($1) AS is_current \
            FROM pgfanout.replica_installation i";
        let row = session.query_one("reading our schema's version", statement, &[&SCHEMA]).await?;
        let version: i32 = row.get("version");
        if version > VERSION {
            return Err(Error::Unfit(format!(
                "{}: pgfanout's schema has version {version}, newer than this program's {VERSION}; \
                 run a newer pgfanout",
                session.database()
            )));
        }
        if row.get("is_current") {
            return Ok(());
        }
    }
    begin(session).await?;
    session.run("installing pgfanout's schema", SCHEMA).await?;
    let noting = "UPDATE pgfanout.replica_installation SET version = $1, source = md5($2)";
    session.execute("noting what is installed", noting, &[&VERSION, &SCHEMA]).await?;
    session.commit().await
}
