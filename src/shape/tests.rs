use super::*;

fn shape() -> Shape {
    let column = |name: &str| Column { name: name.into(), kind: Kind::Text };
    let key = |at, type_name: &str| KeyColumn {
        at,
        type_name: type_name.into(),
        equals: "OPERATOR(pg_catalog.=)".into(),
        comparable: true,
        respellable: at == 2,
        is_char: false,
    };
    Shape {
        schema: "s".into(),
        table: "we\"ird".into(),
        columns: vec![column("a"), column("b c"), column("d")],
        key: vec![key(2, "pg_catalog.\"numeric\""), key(0, "pg_catalog.int4")],
        sized: vec![1],
        ..Shape::default()
    }
}

#[test]
fn statements_name_everything_quoted_and_with_schema() {
    assert_eq!(
        shape().delete_by_keys(),
        "DELETE FROM \"s\".\"we\"\"ird\" t USING \
         unnest($1::pg_catalog.\"numeric\"[], $2::pg_catalog.int4[]) AS k (k1, k2) \
         WHERE t.\"d\" OPERATOR(pg_catalog.=) k.k1 AND t.\"a\" OPERATOR(pg_catalog.=) k.k2"
    );
    let select = shape().select_by_keys();
    assert!(select.starts_with("SELECT k.n, t.tableoid::pg_catalog.text OPERATOR(pg_catalog.||) t.ctid"));
    assert!(
        select.contains("CASE WHEN coalesce(octet_length(t.\"b c\"), 0)::int8 <= 65536 THEN ROW(t.\"a\"")
    );
    assert!(shape().select_pieces_by_keys().contains("(SELECT k.n AS n, ''"));
    assert!(shape().select_long(false, true).contains("substr(s.data, s.start, $3::int4)"));
    assert_eq!(
        shape().copy_range(true, false, true, "csv"),
        "COPY (SELECT t.\"a\", t.\"b c\", t.\"d\" FROM \"s\".\"we\"\"ird\" t WHERE (t.\"d\", t.\"a\") <= \
         ((current_setting('pgfanout.key_1')::pg_catalog.\"numeric\"[])[1], \
         (current_setting('pgfanout.key_2')::pg_catalog.int4[])[1]) \
         AND coalesce(octet_length(t.\"b c\"), 0)::int8 <= 65536) TO STDOUT (FORMAT csv)"
    );
    assert!(shape().row_bytes().starts_with("CASE WHEN coalesce(octet_length(t.\"b c\"), 0)::int8 <= "));
    assert_eq!(shape().row_text(), "ROW(t.\"a\", t.\"b c\", t.\"d\")::pg_catalog.text");
}

#[test]
fn keys_become_arrays_whose_elements_are_quoted() {
    let keys: [Key; 2] =
        [vec![Some("1".into()), Some("a\"\\".into())], vec![Some("2".into()), Some("".into())]];
    let arrays: Vec<_> = key_arrays(2, keys.iter()).into_iter().map(|text| text.0).collect();
    assert_eq!(arrays, ["{\"1\",\"2\"}", "{\"a\\\"\\\\\",\"\"}"]);
}

#[test]
fn columns_of_its_own_are_put_aside_and_brought_back() {
    let shape = Shape { own: vec!["o\"1".into(), "o 2".into()], oid: 7, ..shape() };
    assert!(shape.put_aside_by_keys().ends_with(
        "RETURNING t.\"d\", t.\"a\", t.\"o\"\"1\", t.\"o 2\") INSERT INTO pg_temp.pgfanout_kept_7 SELECT * FROM gone"
    ));
    let back = shape.bring_back();
    assert!(
        back.contains(
            "t.\"d\" OPERATOR(pg_catalog.=) k.k1 AND t.\"a\" OPERATOR(pg_catalog.=) k.k2 RETURNING"
        )
    );
    assert!(
        back.contains(
            "(\"a\", \"b c\", \"d\", \"o\"\"1\", \"o 2\") OVERRIDING SYSTEM VALUE SELECT * FROM back"
        )
    );
}
