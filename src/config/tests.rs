//! What a configuration file becomes, and what is said when it is wrong.

use std::{collections::BTreeSet, env, fs, path::PathBuf};

use tokio_postgres::config::Host;

use super::{document::Document, *};

mod files;

const EXAMPLE: &str = include_str!("../../config/pgfanout.toml");

const MINIMAL: &str = "[primary]\nurl = \"postgres://p/shop\"\n[[replica]]\nurl = \"postgres://r/shop\"\n";

fn environment(name: &str) -> Option<String> {
    match name {
        "SECRET" => Some("from $SECRET".to_owned()),
        "WHOLE" => Some("postgres://me:hunter2@p:1/shop".to_owned()),
        _ => None,
    }
}

fn read(text: &str) -> Result<Config, Problems> {
    read::read(Path::new("test.toml"), text, &environment)
}

fn accepted(text: &str) -> Config {
    read(text).unwrap_or_else(|problems| unreachable!("{text}\n{problems}"))
}

/// What is said about a file; no word of it may be a password.
fn refused(text: &str) -> Vec<String> {
    let problems = read(text).expect_err(text).0;
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    assert!(!lines.iter().any(|line| line.contains("hunter2") || line.contains('\n')), "{lines:?}");
    lines
}

/// The only thing said about a file that is right but for this.
fn sole(text: &str) -> String {
    let lines = refused(text);
    assert_eq!(lines.len(), 1, "{lines:?}");
    lines.into_iter().next().unwrap_or_default()
}

fn with_primary_url(url: &str) -> String {
    MINIMAL.replacen("postgres://p/shop", url, 1)
}

fn with_broker(keys: &str) -> String {
    format!("{MINIMAL}[broker]\nurls = [\"amqp://me:hunter2@b\"]\n{keys}\n")
}

/// The example with every key that is commented out brought in.
fn uncommented_example() -> String {
    let is_key = |line: &str| {
        let word = line.split('=').next().unwrap_or_default().trim();
        line.starts_with("[[") || (line.contains(" = ") && !word.contains(' '))
    };
    let line = |line: &'static str| line.strip_prefix("# ").filter(|rest| is_key(rest)).unwrap_or(line);
    EXAMPLE.lines().map(|text| line(text).to_owned() + "\n").collect()
}

#[test]
fn the_example_is_a_configuration() {
    let config = accepted(EXAMPLE);
    assert_eq!(config.replicas[0].name, "replica1");
    assert!(config.broker.is_some());
}

#[test]
fn the_example_documents_every_key() {
    let whole = uncommented_example();
    let document = Document::new(Path::new("test.toml"), &whole, &environment);
    // The secrets it names are not there; everything is asked for all the same.
    let _ = read::read_document(&document);
    let problems = document.problems.take();
    let is_secret =
        |line: String| ["password_file", "hmac_key", "ssl"].iter().any(|word| line.contains(word));
    assert!(problems.iter().all(|problem| is_secret(problem.to_string())), "{problems:?}");
    let written: BTreeSet<String> =
        document.places.borrow().keys().map(|key| key.replace("[0]", "")).collect();
    let missing: Vec<_> = document.known.borrow().difference(&written).cloned().collect();
    assert!(missing.is_empty(), "not in config/pgfanout.toml: {missing:?}");
    assert!(written.contains("table.old_record") && written.contains("replica.password_file"));
}

#[test]
fn the_example_tells_the_defaults() {
    let urls_only: String = EXAMPLE
        .lines()
        .filter(|line| line.starts_with('[') || line.starts_with("url") || line.starts_with("name"))
        .flat_map(|line| [line, "\n"])
        .collect();
    let (told, defaults) = (accepted(EXAMPLE), accepted(&urls_only));
    let plain = |config: &Config| {
        let Config { primary, broker, replicas, tables, copy, shutdown_grace, log, .. } = config;
        format!("{primary:?} {broker:?} {replicas:?} {tables:?} {copy:?} {shutdown_grace:?} {log:?}")
    };
    assert_eq!(plain(&told), plain(&defaults));
}

#[test]
fn only_urls_have_to_be_given() {
    let config = accepted(MINIMAL);
    assert_eq!(config.replicas[0].name, "r-5432-shop");
    assert_eq!(config.replicas[0].database.name, "replica r-5432-shop");
    assert_eq!(config.primary.tables[0].to_string(), "*.*");
    assert_eq!(config.shutdown_grace, Duration::from_secs(20));
    assert!(config.broker.is_none());
    let line = sole(&format!("{MINIMAL}on_table_error = \"skip\""));
    assert!(line.ends_with("found \"skip\", expected \"halt\" or \"isolate\""), "{line}");
    let lines = refused("");
    assert_eq!(
        lines,
        [
            "test.toml: primary.url: is missing; write postgres://user@host:5432/database",
            "test.toml: replica: is missing; add a section [[replica]] with its url, or a [broker]"
        ]
    );
    assert_eq!(
        sole(&format!("{MINIMAL}[broker]")),
        "test.toml:5:2: broker.urls: is missing; write [\"amqp://user@host:5672/\"], or leave out [broker]"
    );
}

#[test]
fn all_problems_are_told_together_in_the_order_of_the_file() {
    let text = "[primary]\n  urll = 5\ntables = \"public.*\"\nold_record = \"none\"\nexclude = [\"a b\", 7]\n\
                changelog_retention_hours = 0\n[borker]\n[[replica]]\nname = \"a b\"\nurl = 5\n\
                [copy]\nworkers = 1.5\nwrokers = 2\n[log]\nlevel = \"loud\"\n";
    assert_eq!(
        refused(text),
        [
            "test.toml:1:2: primary.url: is missing; write postgres://user@host:5432/database",
            "test.toml:2:3: primary.urll: unknown key; did you mean url?",
            "test.toml:3:1: primary.tables: found a string, expected a list of strings, such as [\"…\", \"…\"]",
            "test.toml:4:1: primary.old_record: found \"none\", expected \"full\" or \"key\"",
            "test.toml:5:12: primary.exclude[0]: \"a b\" has ' ' outside quotes; write \"…\" around the name",
            "test.toml:5:19: primary.exclude[1]: found a whole number, expected a string in quotes",
            "test.toml:6:1: primary.changelog_retention_hours: found 0, expected a whole number from 1 to 876000",
            "test.toml:7:2: borker: unknown key; did you mean broker?",
            "test.toml:9:1: replica[0].name: found \"a b\", expected 1 to 63 of A-Z a-z 0-9 _ . -",
            "test.toml:10:1: replica[0].url: found a whole number, expected a string in quotes",
            "test.toml:12:1: copy.workers: found a number with a fraction, expected a whole number from 1 to 64",
            "test.toml:13:1: copy.wrokers: unknown key; did you mean workers?",
            "test.toml:15:1: log.level: found \"loud\", expected off, error, warn, info, debug or trace, \
         or directives such as \"info,pgfanout::applier=debug\"",
        ]
    );
}

#[test]
fn what_is_no_toml_is_refused_without_being_quoted() {
    let line = sole("[primary]\nurl = \"postgres://me:hunter2@p\n");
    assert!(line.starts_with("test.toml:2:") && line.contains("not valid TOML"), "{line}");
    let line = sole(&format!("{MINIMAL}url = \"postgres://me:hunter2@p\"\n"));
    assert!(line.starts_with("test.toml:5:1: not valid TOML: duplicate key"), "{line}");
    assert!(
        sole("[[primary]]\nurl = \"x\"\n[[replica]]\nurl = \"postgres://r\"")
            .contains("expected a section [primary]")
    );
    assert!(
        sole(&MINIMAL.replace("[[replica]]", "[replica]")).contains("expected sections headed [[replica]]")
    );
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let problems = Config::load(Path::new("/nowhere/at all.toml")).expect_err("there is no such file");
    assert!(problems.to_string().starts_with("/nowhere/at all.toml: cannot be read: "), "{problems}");
}

#[test]
fn postgres_urls_are_what_libpq_takes() {
    let config = accepted(&with_primary_url("postgresql://u%20x:p%40w@one:1,[::1]:2/db?connect_timeout=5"));
    let primary = &config.primary.database.config;
    assert_eq!((primary.get_user(), primary.get_dbname()), (Some("u x"), Some("db")));
    assert_eq!(primary.get_password(), Some(&b"p@w"[..]));
    assert_eq!(primary.get_hosts(), [Host::Tcp("one".to_owned()), Host::Tcp("::1".to_owned())]);
    let config = accepted(&with_primary_url("host=/run/pg port=5433 dbname='my db' user=me sslmode=disable"));
    let primary = &config.primary.database.config;
    assert_eq!(primary.get_hosts(), [Host::Unix(PathBuf::from("/run/pg"))]);
    assert_eq!(primary.get_dbname(), Some("my db"));
    let local = accepted(&with_primary_url("postgres:///shop"));
    assert!(matches!(local.primary.database.config.get_hosts(), [Host::Unix(_)]));
}

#[test]
fn a_wrong_postgres_url_is_never_quoted() {
    let why = |url: &str| {
        let line = sole(&with_primary_url(url));
        line.strip_prefix("test.toml:2:1: primary.url: ").unwrap_or_default().to_owned()
    };
    assert!(why("").contains("neither a URL nor"));
    assert!(why("me:hunter2@host/db").contains("neither a URL nor"));
    assert!(why("mysql://me:hunter2@host/db?x=y").contains("is not a connection string"));
    assert!(why("host=p password=two hunter2=x").contains("is not a connection string"));
    assert!(why("postgres://p/db?password=a&hunter2=b").contains("is not a connection string"));
    assert!(why("postgres://me:hunter2/db").contains("value of port is not valid"));
    assert!(why("postgres://me:pass@hunter2@p/db").contains("write %40"));
    assert!(
        why("postgres://p/db?sslrootcert=x").contains("write it as a key of its own: sslrootcert = \"FILE\"")
    );
    assert!(why("postgres://p/db?sslcrl=x").contains("sslcrl is not supported"));
    assert!(
        why("postgres://p/db?sslmode=verify-full").contains("key of their own: sslmode = \"verify-full\"")
    );
    assert!(why("postgres://p/db?sslnegotiation=direct").contains("found sslnegotiation=direct"));
    assert!(why("host=p channel_binding=require sslmode=disable").contains("found channel_binding=require"));
    assert!(why("hostaddr=127.0.0.1 sslmode=require").contains("has only hostaddr"));
    assert!(why("host=/run/pg,p sslmode=require").contains("names sockets beside hosts"));
    assert!(why("host=a,b,c port=1,2").contains("names 3 hosts and 2 ports"));
}

#[test]
fn environment_variables_stand_in_for_parts_of_urls() {
    let config = accepted(&with_primary_url("${WHOLE}"));
    assert_eq!(config.primary.database.config.get_password(), Some(&b"hunter2"[..]));
    let config = accepted(&with_primary_url("host=p user=a$$b password='${SECRET}'"));
    assert_eq!(config.primary.database.config.get_user(), Some("a$b"));
    assert_eq!(config.primary.database.config.get_password(), Some(&b"from $SECRET"[..]));
    assert_eq!(
        sole(&with_primary_url("postgres://me:${NOT_SET}@p")),
        "test.toml:2:1: primary.url: found ${NOT_SET}, but there is no environment variable NOT_SET; \
         set it, or write $$ for a dollar"
    );
    for url in ["postgres://me:hunter2$@p", "postgres://me:${hunter2", "postgres://me:${9}@p", "$SECRET"] {
        assert!(sole(&with_primary_url(url)).contains("found a single $"), "{url}");
    }
}

#[test]
fn amqp_urls_are_what_clients_take() {
    let config = accepted(&with_broker("").replace(
        "[\"amqp://me:hunter2@b\"]",
        r#"["amqp://b", "amqp://m%65:h%40t@[::1]:1/v%2fh?heartbeat=5", "amqp://me:${SECRET}@b:2/"]"#,
    ));
    let urls = config.broker.expect("there is a broker").urls;
    let shown: Vec<String> = urls.iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        ["amqp://guest:***@b:5672/%2F", "amqp://me:***@::1:1/v%2Fh?heartbeat=5", "amqp://me:***@b:2/%2F"]
    );
    let passwords = urls.iter().map(|url| url.uri().authority.userinfo.password);
    assert_eq!(passwords.collect::<Vec<_>>(), ["guest", "h@t", "from $SECRET"]);
    assert_eq!(format!("{urls:?}"), format!("[{}]", shown.join(", ")));
}

#[test]
fn a_wrong_amqp_url_is_never_quoted() {
    for url in [
        "",
        "b",
        "me:hunter2@b",
        "http://me:hunter2@b",
        "amqp:hunter2",
        "amqp://me:hunter2@b:x",
        "amqp://b?heartbeat=x",
    ] {
        let line = sole(&with_broker("").replace("amqp://me:hunter2@b", url));
        assert!(line.starts_with("test.toml:6:9: broker.urls[0]: is not an address of a broker"), "{line}");
    }
    let line = sole(&with_broker("").replace("amqp://", "amqps://"));
    assert!(line.contains("broker.sslrootcert: is missing, and amqps needs it"), "{line}");
    let line = sole(&format!("{MINIMAL}[broker]\nurls = []"));
    assert!(line.starts_with("test.toml:6:1: broker.urls: is empty;"), "{line}");
}

#[test]
fn names_of_exchanges_and_replicas_are_checked() {
    for exchange in ["", "a b", "ä", "amq.fanout", &"x".repeat(128)] {
        let line = sole(&with_broker(&format!("exchange = \"{exchange}\"")));
        assert!(line.starts_with("test.toml:7:1: broker.exchange: found "), "{line}");
    }
    for name in ["", "a/b", "ä", "rejected", &"x".repeat(64)] {
        let line = sole(&format!("{MINIMAL}name = \"{name}\""));
        assert!(line.starts_with("test.toml:5:1: replica[0].name: found "), "{line}");
    }
    let line = sole(&format!("{MINIMAL}name = \"a\"\n[[replica]]\nname = \"a\"\nurl = \"host=s\""));
    assert_eq!(
        line,
        "test.toml:7:1: replica[1].name: \"a\" is the name of another replica too; give each a name of its own"
    );
}

#[test]
fn the_same_database_twice_is_refused() {
    let same = |primary: &str, replica: &str| {
        read(&format!("[primary]\nurl = \"{primary}\"\n[[replica]]\nurl = \"{replica}\"\n")).is_err()
    };
    assert!(same("postgres://a@HOST/db", "host=host port=5432 dbname=db user=b"));
    assert!(same("postgres://localhost/db", "postgres://127.0.0.1:5432/db"));
    assert!(same("postgres://me@h", "postgres://h/me"));
    assert!(same("postgres://a:1,b:2/db", "postgres://b:2/db"));
    assert!(same("host=a hostaddr=10.0.0.1 dbname=d", "host=10.0.0.1 dbname=d"));
    assert!(!same("postgres://h/db", "postgres://h/db2"));
    assert!(!same("postgres://h:1/db", "postgres://h:2/db"));
    assert!(!same("postgres://a:1,b:2/db", "postgres://a:2/db"));
    let line = sole(&MINIMAL.replace("//r/", "//me:hunter2@p/"));
    assert_eq!(
        line,
        "test.toml:4:1: replica[0].url: leads to the same database as primary; each must be one of its own"
    );
    let line =
        sole(&format!("{MINIMAL}name = \"a\"\n[[replica]]\nname = \"b\"\nurl = \"host=r dbname=shop\""));
    assert!(line.contains("replica[1].url: leads to the same database as replica a"), "{line}");
}

#[test]
fn tables_are_checked_and_have_options() {
    let line = sole(&MINIMAL.replace("[[replica]]", "tables = []\n[[replica]]"));
    assert!(line.starts_with("test.toml:3:1: primary.tables: is empty; write patterns"), "{line}");
    let key = MINIMAL.replace("[[replica]]", "old_record = \"key\"\n[[replica]]");
    let config = accepted(&format!(
        "{key}[[table]]\nname = \"users\"\nold_record = \"full\"\n[[table]]\nname = 'public.\"A b\"'"
    ));
    assert_eq!(config.old_record("public", "users"), OldRecord::Full);
    assert_eq!(config.old_record("public", "A b"), OldRecord::Key);
    assert_eq!(config.old_record("sales", "users"), OldRecord::Key);
    let line = sole(&format!("{MINIMAL}[[table]]\nname = \"public.*\""));
    assert!(line.starts_with("test.toml:6:1: table[0].name: \"public.*\" has a wildcard"), "{line}");
    let line = sole(&format!("{MINIMAL}[[table]]\nname = \"users\"\n[[table]]\nname = \"public.USERS\""));
    assert!(
        line.starts_with("test.toml:8:1: table[1].name: public.USERS has a [[table]] section already"),
        "{line}"
    );
    assert!(sole(&format!("{MINIMAL}[[table]]")).contains("table[0].name: is missing"));
}

#[test]
fn every_key_has_a_place_for_later_problems() {
    let config = accepted(&MINIMAL.replace("[[replica]]", "tables = [\"a\",\n  \"b\"]\n[[replica]]"));
    let problem = config.problem("primary.tables[1]", "matches no table");
    assert_eq!(problem.to_string(), "test.toml:4:3: primary.tables[1]: matches no table");
    assert_eq!(config.place("primary.exclude").to_string(), "test.toml:1:2: primary.exclude");
    assert_eq!(config.place("replica[0].name").to_string(), "test.toml:5:1: replica[0].name");
    assert_eq!(config.place("log.level").to_string(), "test.toml: log.level");
}

#[test]
fn hmac_keys_come_from_a_file_or_the_environment_and_are_never_shown() {
    let directory = env::temp_dir().join(format!("pgfanout-keys-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("the directory for temporary files can be written");
    let file = directory.join("test.toml");
    let read = |lines: &str, content: &str| {
        fs::write(directory.join("keys"), content).expect("the file can be written");
        let key = |name: &str| (name == "KEY").then(|| "hunter2-from-the-environment".to_owned());
        read::read(&file, &with_broker(lines), &key)
    };
    let keys = |lines: &str, content: &str| {
        let config = read(lines, content).expect("the file is there");
        assert!(!format!("{config:?}").contains("hunter2"), "{config:?}");
        let broker = config.broker.as_ref().expect("there is a broker");
        broker.hmac_keys.iter().map(|key| key.expose().to_owned()).collect::<Vec<_>>()
    };
    let (from_file, given) = ("hmac_key_file = \"keys\"", "hmac_key = \"${KEY}\"");
    assert_eq!(
        keys(from_file, "hunter2-the-newest\nhunter2-the-former\n"),
        ["hunter2-the-newest", "hunter2-the-former"]
    );
    assert_eq!(keys(given, ""), ["hunter2-from-the-environment"]);
    assert!(keys("", "").is_empty(), "no seals by default");
    let why = |lines: &str, content: &str| {
        let problems = read(lines, content).expect_err("is wrong").to_string();
        assert!(!problems.contains("hunter2"), "{problems}");
        problems
    };
    assert!(why(from_file, "").contains("broker.hmac_key_file: its file is empty"));
    assert!(why(from_file, "hunter2-the-newest\n\n").contains("a key of less than 16 bytes"));
    assert!(why("hmac_key = \"hunter2\"", "").contains("broker.hmac_key: holds a key of less than 16 bytes"));
    let both = format!("{from_file}\n{given}");
    assert!(why(&both, "hunter2-the-newest").contains("broker.hmac_key: stands beside hmac_key_file"));
    assert!(why("hmac_key = \"${NONE}\"", "").contains("no environment variable NONE"));
    fs::remove_dir_all(&directory).expect("the directory is ours");
}
