//! Whatever a key's type and the application's settings: the log has the text that our sessions print.

use super::{Primary, entry};

const HOSTILE: &str = "
    SET DateStyle = 'German'; SET IntervalStyle = 'sql_standard'; SET TimeZone = 'Asia/Kathmandu';
    SET extra_float_digits = -10; SET bytea_output = 'escape'; SET quote_all_identifiers = on;
    SET standard_conforming_strings = off; SET array_nulls = off; SET xmloption = document;
    SET transform_null_equals = on; SET search_path = '';";

/// A type and values of it, as SQL.
const TYPES: &[(&str, &[&str])] = &[
    ("smallint", &["-32768"]),
    ("bigint", &["9223372036854775807"]),
    ("numeric", &["1.00", "'NaN'", "1e300", "-0.00000000000000000001"]),
    ("text", &["''", "' blank '", "chr(92) || '\"(,)'", "'é€𝄞'", "'NULL'"]),
    ("varchar(9)", &["'a  '"]),
    ("char(5)", &["'ab'", "'(\"'"]),
    ("\"char\"", &["'x'"]),
    ("name", &["'n'"]),
    ("uuid", &["'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'"]),
    ("bool", &["true", "false"]),
    ("oid", &["4294967295"]),
    ("bytea", &["decode('00ff5c27', 'hex')", "''"]),
    ("date", &["make_date(2024, 2, 29)", "make_date(-44, 3, 15)", "'infinity'", "'-infinity'"]),
    ("time", &["'23:59:59.999999'", "'24:00'"]),
    ("timetz", &["'12:00:00+05:45'"]),
    (
        "timestamp",
        &["make_timestamp(2024, 12, 31, 23, 59, 59.123456)", "make_date(-1, 1, 1)::timestamp", "'infinity'"],
    ),
    (
        "timestamptz",
        &[
            "make_timestamptz(2024, 12, 31, 23, 59, 59.5)",
            "(make_date(-44, 3, 15) + '01:00'::time)::timestamptz",
            "'-infinity'",
        ],
    ),
    ("interval", &["'1 year 2 days -03:04:05.6'"]),
    ("float4", &["0.1", "'NaN'", "1e-40"]),
    ("float8", &["0.1::float8 + 0.2::float8", "'-Infinity'", "5e-324"]),
    ("money", &["12.34::numeric::money"]),
    ("inet", &["'10.0.0.1/8'", "'::1'"]),
    ("macaddr", &["'08:00:2b:01:02:03'"]),
    ("bit(3)", &["B'101'"]),
    ("varbit", &["B''"]),
    ("jsonb", &["'{\"a\": 1e5, \"b\": null}'"]),
    ("int4range", &["'[1,5)'"]),
    ("tsrange", &["tsrange(make_timestamp(2024, 12, 31, 1, 2, 3), null)"]),
    ("public.mood", &["'so \"so\"'"]),
    ("public.positive", &["5"]),
    ("public.day", &["make_date(2020, 1, 2)"]),
];

const OWN_TYPES: &str = "
    CREATE TYPE mood AS ENUM ('so \"so\"');
    CREATE DOMAIN positive AS int CHECK (value > 0);
    CREATE DOMAIN day AS date;";

#[actix::test]
async fn a_key_is_logged_as_our_sessions_print_it() {
    let primary = Primary::start().await;
    primary.run(OWN_TYPES).await;
    for (at, (kind, _)) in TYPES.iter().enumerate() {
        primary.run(&format!("CREATE TABLE one_{at} (k {kind} PRIMARY KEY)")).await;
        primary.run(&format!("CREATE TABLE two_{at} (k {kind}, i int, PRIMARY KEY (i, k))")).await;
        primary.capture(&format!("one_{at}")).await;
        primary.capture(&format!("two_{at}")).await;
    }
    primary.run(HOSTILE).await;
    for (at, (kind, values)) in TYPES.iter().enumerate() {
        for value in *values {
            primary.run(&format!("INSERT INTO public.one_{at} VALUES (({value})::{kind})")).await;
            primary.run(&format!("INSERT INTO public.two_{at} VALUES (({value})::{kind}, 7)")).await;
        }
        // Printed by the output function, except that a boolean is a word.
        let printed = if *kind == "bool" { "k::text" } else { "format('%s', k)" };
        for (table, key) in [("one", printed), ("two", &format!("ROW(i, {printed})::text"))] {
            let differing = format!(
                "SELECT string_agg(x, ' ') FROM (
                    (SELECT {key} AS x FROM public.{table}_{at} EXCEPT ALL SELECT key FROM pgfanout.changelog l
                        JOIN pgfanout.captured_table t ON t.id = l.table_id WHERE t.table_name = '{table}_{at}')
                    UNION ALL
                    (SELECT key FROM pgfanout.changelog l JOIN pgfanout.captured_table t ON t.id = l.table_id
                        WHERE t.table_name = '{table}_{at}' EXCEPT ALL SELECT {key} FROM public.{table}_{at})) d"
            );
            assert_eq!(primary.value(&differing).await, None, "{table} of {kind}");
        }
        primary.run(&format!("DELETE FROM public.one_{at}; DELETE FROM public.two_{at}")).await;
    }
}

#[actix::test]
async fn an_old_row_is_json_with_every_digit_and_never_fails() {
    let primary = Primary::start().await;
    primary
        .run(
            "CREATE TABLE t (id bigint PRIMARY KEY, n numeric, b bool, j json, jb jsonb, a int[], r tsrange,
                \"we\"\"ird, (x)\" text, by bytea, ts timestamptz, p pg_lsn, x text, new_rows text, t text,
                gen int GENERATED ALWAYS AS (1) STORED)",
        )
        .await;
    primary.capture("t").await;
    primary
        .run(
            r#"INSERT INTO t (id, n, b, j, jb, a, r, "we""ird, (x)", by, ts, x)
                VALUES (9007199254740993, 1.000000000000000000001, true, '{"a":  "\u0000"}', '[1e3]', '[0:1]={1,2}',
                    '[2020-01-01,)', 'quote " and tab	', '\x00', '2020-01-01 00:00:00+02', 'x');
            SET TimeZone = 'Asia/Tokyo'; SET DateStyle = 'SQL'; DELETE FROM t"#,
        )
        .await;
    let old = primary.value("SELECT old FROM pgfanout.changelog WHERE operation = 'D'").await.unwrap();
    for part in [
        r#""id":9007199254740993,"n":1.000000000000000000001,"b":true,"j":"{\"a\":  \"\\u0000\"}","jb":"[1000]","a":"[0:1]={1,2}""#,
        r#""we\"ird, (x)":"quote \" and tab\t","by":"\\x00","ts":"2019-12-31 22:00:00+00","p":null,"x":"x""#,
    ] {
        assert!(old.contains(part), "{part} is not in {old}");
    }
    assert!(!old.contains("gen"), "{old}");
}

#[actix::test]
async fn values_too_large_for_json_and_wide_rows_do_not_fail_the_application() {
    let primary = Primary::start().await;
    let columns: Vec<_> = (1..1600).map(|at| format!("c{at} text")).collect();
    primary
        .run(&format!(
            "CREATE TABLE wide (id int PRIMARY KEY, {}); INSERT INTO wide VALUES (1);
            CREATE TABLE huge (id int PRIMARY KEY, j jsonb, a numeric[], t text);
            INSERT INTO huge SELECT 1, jsonb_agg(('1e131071')::numeric), null, repeat(chr(1), 40000000)
                FROM generate_series(1, 9000) g",
            columns.join(", ")
        ))
        .await;
    let wide = primary.capture("wide").await;
    let huge = primary.capture("huge").await;
    primary.run("SET max_stack_depth = '100kB'; UPDATE wide SET c5 = 'x'").await;
    primary.run("UPDATE huge SET id = 2; UPDATE huge SET t = ''; UPDATE huge SET t = 'a'").await;
    assert_eq!(primary.entries(wide).await, [entry("U", "1")]);
    assert_eq!(primary.entries(huge).await.len(), 5);
    // No reader takes more than 16 KiB of an old row: it must not look as if the large values had been null.
    let last = "SELECT octet_length(old) > 16384 FROM pgfanout.changelog ORDER BY logged_at DESC LIMIT 1";
    assert_eq!(primary.value(last).await.as_deref(), Some("true"));
    let room =
        format!("SELECT max(pg_column_size(old)) < 1000 FROM pgfanout.changelog WHERE table_id = {huge}");
    assert_eq!(primary.value(&room).await.as_deref(), Some("true"), "it costs no room in the log");
}

#[actix::test]
async fn writers_do_not_pay_for_old_rows_that_nobody_reads() {
    let primary = Primary::start().await;
    primary
        .run(
            "CREATE TABLE t (id int PRIMARY KEY, a text, b bytea, c varbit, j json);
            INSERT INTO t SELECT g, repeat('a', 8000), decode(repeat('00', 4000), 'hex') FROM generate_series(1, 5) g;
            UPDATE t SET b = decode(repeat('00', 8400), 'hex') WHERE id = 2;
            UPDATE t SET c = repeat('1', 140000)::varbit WHERE id = 3;
            UPDATE t SET j = to_json(repeat('j', 17000)) WHERE id = 4;
            UPDATE t SET j = to_json((SELECT string_agg(md5(g::text), '') FROM generate_series(1, 40000) g)) WHERE id = 5",
        )
        .await;
    primary.capture("t").await;
    primary.run("DELETE FROM t").await;
    let olds =
        "SELECT string_agg(CASE WHEN old IS NULL THEN 'none' WHEN octet_length(old) > 16384 THEN 'too large'
        ELSE 'small' END, ', ' ORDER BY key) FROM pgfanout.changelog WHERE table_id <> 0";
    assert_eq!(primary.value(olds).await.as_deref(), Some("small, none, none, too large, too large"));
    let room = "SELECT max(pg_column_size(old)) < 1000 FROM pgfanout.changelog";
    assert_eq!(primary.value(room).await.as_deref(), Some("true"));
}
