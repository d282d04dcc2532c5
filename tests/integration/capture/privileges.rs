//! Writers need no right on our schema, and get none by being clever.

use super::{Primary, entry};

/// Two roles of the server: shared with other tests, so named after the world's database.
async fn role(primary: &Primary) -> String {
    let database = primary.value("SELECT current_database()").await.unwrap();
    let role = format!("{database}_app");
    primary.run(&format!("CREATE ROLE {role}; GRANT CREATE, USAGE ON SCHEMA public TO {role}")).await;
    role
}

async fn drop_role(primary: &Primary, role: &str) {
    primary.run(&format!("RESET ROLE; DROP OWNED BY {role} CASCADE; DROP ROLE {role}")).await;
}

#[actix::test]
async fn a_role_without_rights_writes_and_can_neither_read_nor_forge() {
    let primary = Primary::start().await;
    primary.run("CREATE TABLE t (id int PRIMARY KEY, v text)").await;
    let id = primary.capture("t").await;
    let role = role(&primary).await;
    primary.run(&format!("GRANT ALL ON t TO {role}; SET ROLE {role}; SET search_path = ''")).await;
    primary
        .run(
            "INSERT INTO public.t VALUES (1, 'a'); UPDATE public.t SET id = 2, v = 'b'; DELETE FROM public.t",
        )
        .await;
    primary.run("BEGIN ISOLATION LEVEL SERIALIZABLE; INSERT INTO public.t VALUES (3); COMMIT").await;
    assert_eq!(primary.entries(id).await.len(), 6);
    for forbidden in [
        "SELECT * FROM pgfanout.changelog",
        "INSERT INTO pgfanout.changelog (table_id, operation) VALUES (1, 'T')",
        "SELECT pgfanout.wake()",
        "SELECT pgfanout.release(1)",
        "SELECT nextval('pgfanout.asleep')",
        "CREATE TABLE public.mine (id int); CREATE TRIGGER f AFTER INSERT ON public.mine FOR EACH ROW
            EXECUTE FUNCTION pgfanout.changed_key_1()",
        "DELETE FROM pgfanout.captured_table",
    ] {
        let error = primary.application.batch_execute(forbidden).await.unwrap_err();
        assert_eq!(error.code().unwrap().code(), "42501", "{forbidden}: {error:?}");
    }
    drop_role(&primary, &role).await;
}

#[actix::test]
async fn nobody_gets_code_run_as_us_by_shadowing_names() {
    let primary = Primary::start().await;
    let role = role(&primary).await;
    // Whatever runs as somebody else than the role leaves a mark.
    primary
        .run(&format!(
            "CREATE TABLE marks (who text); GRANT INSERT ON marks TO public;
            SET ROLE {role};
            CREATE TYPE mood AS ENUM ('sad', 'gay'); CREATE TYPE pair AS (a int, b text);
            CREATE FUNCTION mark() RETURNS void LANGUAGE plpgsql AS $$ BEGIN
                IF current_user::name <> '{role}' THEN INSERT INTO public.marks VALUES (current_user); END IF; END $$;
            CREATE TABLE plain (id numeric PRIMARY KEY, v text, m mood, p pair, ts timestamptz, j jsonb, b bytea);
            CREATE TABLE moods (m mood PRIMARY KEY, x int);
            CREATE TABLE bag (id numeric, v text, m mood, p pair, ts timestamptz, j jsonb, b bytea);
            CREATE TABLE bags (id int, m mood) PARTITION BY LIST (id); CREATE TABLE bags_1 PARTITION OF bags DEFAULT;
            CREATE TABLE parted (id int, m mood, PRIMARY KEY (id, m)) PARTITION BY LIST (id);
            CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1)"
        ))
        .await;
    let functions = [
        ("row_to_json(anyelement)", "json"),
        ("row_to_json(record)", "json"),
        ("format(text, numeric)", "text"),
        ("format(text, mood)", "text"),
        ("printed(anyelement, integer)", "text"),
        ("pg_notify(text, text)", "void"),
        ("pg_current_xact_id()", "xid8"),
        ("clock_timestamp()", "timestamptz"),
        ("record_image_ne(anyelement, anyelement)", "boolean"),
        ("to_json(timestamp)", "json"),
        ("btrim(text, text)", "text"),
        ("octet_length(text)", "int"),
        ("text(mood)", "text"),
        ("\"json\"(mood)", "json"),
        ("text(pair)", "text"),
        ("any_equal(integer, integer)", "boolean"),
        ("any_equal(bigint, integer)", "boolean"),
        ("any_equal(text, text)", "boolean"),
        ("any_equal(mood, mood)", "boolean"),
    ];
    for (function, result) in functions {
        primary
            .run(&format!(
                "CREATE FUNCTION {function} RETURNS {result} LANGUAGE plpgsql AS $$ BEGIN
                    PERFORM public.mark(); RETURN{}; END $$",
                if result == "void" { "" } else { " null" }
            ))
            .await;
    }
    primary
        .run(
            "CREATE OPERATOR = (FUNCTION = any_equal, LEFTARG = integer, RIGHTARG = integer);
            CREATE OPERATOR = (FUNCTION = any_equal, LEFTARG = bigint, RIGHTARG = integer);
            CREATE OPERATOR = (FUNCTION = any_equal, LEFTARG = text, RIGHTARG = text);
            CREATE OPERATOR <> (FUNCTION = any_equal, LEFTARG = mood, RIGHTARG = mood);
            CREATE CAST (mood AS text) WITH FUNCTION text(mood) AS IMPLICIT;
            CREATE CAST (mood AS json) WITH FUNCTION \"json\"(mood) AS IMPLICIT;
            CREATE CAST (pair AS text) WITH FUNCTION text(pair) AS IMPLICIT;
            CREATE TEMP TABLE changelog (table_id int, operation \"char\", key text, old text);
            CREATE TEMP TABLE asleep (last_value bigint); INSERT INTO asleep VALUES (1);
            CREATE TEMP TABLE old_rows (id int); CREATE TEMP TABLE new_rows (id int);
            CREATE TEMP TABLE pg_class (oid oid); CREATE TEMP TABLE pg_trigger (oid oid);
            RESET ROLE",
        )
        .await;
    let mut ids = Vec::new();
    for table in ["plain", "moods", "parted", "bag", "bags"] {
        ids.push(primary.capture(table).await);
    }
    primary.session.run("falling asleep", "SELECT setval('pgfanout.asleep', 1)").await.unwrap();
    primary
        .run(&format!(
            "SET ROLE {role}; SET search_path = pg_temp, public, pg_catalog;
            INSERT INTO plain VALUES (1, 'a', 'sad', ROW(1, 'x'), now(), '[]', 'b');
            UPDATE plain SET v = 'b', id = 2; DELETE FROM plain;
            INSERT INTO moods VALUES ('sad'); UPDATE moods SET m = 'gay', x = 1; DELETE FROM moods; TRUNCATE moods;
            INSERT INTO bag VALUES (1, 'a', 'sad', ROW(1, 'x'), now(), '[]', 'b'); UPDATE bag SET id = 2; DELETE FROM bag;
            INSERT INTO bags VALUES (1, 'sad'); UPDATE bags SET m = 'gay'; DELETE FROM bags; TRUNCATE bags_1;
            INSERT INTO parted VALUES (1, 'sad'); UPDATE parted SET m = 'gay'; TRUNCATE parted_1; TRUNCATE parted;
            ALTER TABLE plain ADD more text; INSERT INTO plain VALUES (7); ALTER TABLE parted DETACH PARTITION parted_1"
        ))
        .await;
    assert_eq!(primary.value("SELECT string_agg(who, ', ') FROM public.marks").await, None);
    assert_eq!(primary.entries(ids[0]).await.len(), 6);
    assert_eq!(primary.entries(ids[1]).await.len(), 6);
    assert_eq!(primary.entries(ids[3]).await.len(), 4);
    let bags = ["D", "D", "I", "I", "T"].map(|operation| operation.to_owned());
    let found = primary.entries(ids[4]).await;
    assert_eq!(found.into_iter().map(|(operation, _)| operation).collect::<Vec<_>>(), bags);
    let parted = primary.entries(ids[2]).await;
    assert_eq!(parted[..2], [entry("D", "(1,gay)"), entry("D", "(1,sad)")]);
    assert_eq!(primary.value("SELECT string_agg(broken, ' ') FROM pgfanout.captured_table").await, None);
    drop_role(&primary, &role).await;
}
