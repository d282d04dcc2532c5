//! What stands in files of its own: passwords, keys and certificates.

use std::os::unix::fs::PermissionsExt as _;

use pgfanout_testbed::certificates::Authority;

use super::*;

#[test]
fn tls_is_as_libpq_has_it() {
    let directory = env::temp_dir().join(format!("pgfanout-tls-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("the directory for temporary files can be written");
    let (authority, other) = (Authority::new(), Authority::new());
    let (own, others) = (authority.certify("us", "us"), other.certify("them", "them"));
    for (name, text) in [
        ("root", authority.certificate()),
        ("cert", &own.certificate),
        ("key", &own.key),
        ("other", &others.key),
        ("empty", "no PEM"),
        ("junk", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"),
    ] {
        fs::write(directory.join(name), text).expect("the file can be written");
    }
    let text = |lines: &str| MINIMAL.replace("shop\"\n", &format!("shop\"\n{lines}\n"));
    let read = |lines: &str| read::read(&directory.join("test.toml"), &text(lines), &|_| None);
    let why = |lines: &str| read(lines).expect_err("it is refused").to_string();
    let roots = "sslrootcert = \"root\"\n";
    for lines in
        ["", "sslmode = \"disable\"", "sslmode = \"require\"", &format!("sslmode = \"verify-full\"\n{roots}")]
    {
        read(lines).unwrap_or_else(|problems| unreachable!("{lines}: {problems}"));
    }
    read(&format!("{roots}sslcert = \"cert\"\nsslkey = \"key\"")).expect("a certificate of ours");
    assert!(why("sslmode = \"verify-ca\"").contains("primary.sslmode: needs sslrootcert beside it"));
    assert!(why("sslmode = \"on\"").contains("primary.sslmode: found \"on\", expected \"disable\" or"));
    assert!(why("sslrootcert = \"none\"").contains("primary.sslrootcert: "));
    assert!(why("sslrootcert = \"empty\"").contains("its file holds no certificate"));
    let junk = why("sslmode = \"verify-ca\"\nsslrootcert = \"junk\"\nsslcert = \"cert\"\nsslkey = \"key\"");
    assert!(junk.contains("primary.sslrootcert: holds what is no authority's certificate"), "{junk}");
    assert!(why("sslcert = \"cert\"").contains("primary.sslcert: needs sslkey beside it"));
    assert!(why("sslkey = \"key\"").contains("primary.sslkey: needs sslcert beside it"));
    assert!(why("sslcert = \"cert\"\nsslkey = \"cert\"").contains("its file holds no private key"));
    assert!(
        why("sslcert = \"cert\"\nsslkey = \"other\"").contains("primary.sslcert: does not go with its key")
    );
    let shown = format!("{:?}", read(&format!("{roots}sslcert = \"cert\"\nsslkey = \"key\"")));
    let key = own.key.lines().nth(1).expect("the key's own lines");
    assert!(!shown.contains(key), "a key is never shown");
    fs::remove_dir_all(&directory).expect("it is ours");
}

#[test]
fn passwords_come_from_files_or_the_environment_and_are_never_shown() {
    let directory = env::temp_dir().join(format!("pgfanout-config-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("the directory for temporary files can be written");
    let file = directory.join("test.toml");
    let read = |text: &str, content: &str| {
        fs::write(directory.join("secret"), content).expect("the file can be written");
        read::read(&file, text, &|name| (name == "PGPASSWORD").then(|| "hunter3".to_owned()))
    };
    let text = with_broker("password_file = \"secret\"").replace("me:hunter2@", "me@");
    let text = text.replace("shop\"\n[[replica]]", "shop\"\npassword_file = \"secret\"\n[[replica]]");
    let config = read(&text, "hunter2\r\nmore\n").expect("the file is there");
    let primary = &config.primary.database;
    assert_eq!(primary.logging_in().expect("it is there").get_password(), Some(&b"hunter2"[..]));
    assert_eq!(config.replicas[0].database.config.get_password(), Some(&b"hunter3"[..]));
    let urls = &config.broker.as_ref().expect("there is a broker").urls;
    assert_eq!(urls[0].uri().authority.userinfo.password, "hunter2");
    assert!(!format!("{config:?}").contains("hunter"), "{config:?}");
    assert!(config.warnings.iter().all(|warning| warning.contains("everybody on this machine may read")));
    // It is read again for each connection.
    fs::write(directory.join("secret"), "hunter4").expect("the file can be written");
    assert_eq!(urls[0].logging_in().expect("it is there").authority.userinfo.password, "hunter4");
    assert_eq!(primary.logging_in().expect("it is there").get_password(), Some(&b"hunter4"[..]));
    fs::remove_file(directory.join("secret")).expect("it was there");
    let gone = primary.logging_in().expect_err("it is gone").to_string();
    assert!(gone.starts_with("primary: connecting: ") && gone.contains("secret: cannot be read"), "{gone}");
    let why = |text: &str, content: &str| read(text, content).expect_err("is wrong").to_string();
    assert!(why(&text.replace("\"secret\"", "\".\""), "").contains("is no plain file"));
    assert!(why(&text, "\nhunter2").contains("first line is empty"));
    assert!(why(&text, &"x".repeat(5000)).contains("larger than 4096 bytes"));
    assert!(why(&text.replace("\"secret\"", "\"none\""), "").contains("cannot be read"));
    assert!(
        why(&text.replace("//p/", "//me:hunter2@p/"), "x")
            .contains("primary.url: holds a password, and so does")
    );
    assert!(why(&text.replace("//me@b", "//me:hunter2@b"), "x").contains("broker.urls[0]: holds a password"));
    fs::remove_dir_all(&directory).expect("the directory is ours");
}

#[test]
fn libpqs_password_file_serves_what_has_no_other_password() {
    let directory = env::temp_dir().join(format!("pgfanout-pgpass-{}", std::process::id()));
    fs::create_dir_all(&directory).expect("the directory for temporary files can be written");
    let (file, home) = (directory.join("named"), directory.join(".pgpass"));
    let write = |file: &Path, text: &str, mode: u32| {
        fs::write(file, text).expect("the file can be written");
        fs::set_permissions(file, fs::Permissions::from_mode(mode)).expect("it is ours");
    };
    write(&file, "p:5432:shop:me:hunter2\nq:*:*:*:hunter4\n", 0o600);
    write(&home, "p:*:*:*:hunter3", 0o400);
    let read = |url: &str, variables: &[(&str, &Path)]| {
        let value = |(_, value): &(&str, &Path)| value.display().to_string();
        let environment = |name: &str| variables.iter().find(|(known, _)| *known == name).map(value);
        read::read(Path::new("test.toml"), &with_primary_url(url), &environment)
    };
    let password = |url: &str, variables: &[(&str, &Path)]| {
        let config = read(url, variables).unwrap_or_else(|problems| unreachable!("{problems}"));
        assert!(!format!("{config:?}").contains("hunter"), "{config:?}");
        let complete = config.primary.database.logging_in().expect("it is whole");
        (
            complete.get_password().map(|password| String::from_utf8_lossy(password).into_owned()),
            config.warnings,
        )
    };
    let both = [("PGPASSFILE", file.as_path()), ("HOME", directory.as_path()), ("PGPASSWORD", Path::new(""))];
    let found = |text: &str| (Some(text.to_owned()), Vec::new());
    assert_eq!(password("postgres://me@p/shop", &both), found("hunter2"));
    assert_eq!(password("postgres://me:@p/shop", &both), found("hunter2"));
    assert_eq!(password("postgres://me:own@p/shop", &both), found("own"));
    assert_eq!(password("postgres://me@s/shop", &both), (None, Vec::new()));
    assert_eq!(password("postgres://me@p/shop", &both[1..]), found("hunter3"));
    assert_eq!(password("postgres://me@p/shop", &[both[1], ("PGPASSFILE", Path::new(""))]), found("hunter3"));
    assert_eq!(
        password("postgres://me@p/shop", &[both[0], ("PGPASSWORD", Path::new("first"))]),
        found("first")
    );
    assert_eq!(password("postgres://me@p/shop", &[]), (None, Vec::new()));
    assert_eq!(password("postgres://me@p,p/shop", &both), found("hunter2"));
    for hosts in ["p,q", "p,s", "s,p"] {
        let refused = read(&format!("postgres://me@{hosts}/shop"), &both).expect_err(hosts).to_string();
        assert!(refused.contains("primary.url: the hosts have different passwords in "), "{refused}");
        assert!(refused.contains(&file.display().to_string()) && !refused.contains("hunter"), "{refused}");
    }
    for mode in [0o640, 0o604, 0o620] {
        write(&file, "*:*:*:*:hunter2", mode);
        let (none, warnings) = password("postgres://me@p/shop", &both);
        assert_eq!(none, None);
        // The replica would be served by the same file.
        let warning = "named: is ignored, since others than its owner have access to it; chmod 600 it";
        assert!(matches!(&warnings[..], [one] if one.ends_with(warning)), "{warnings:?}");
    }
    fs::remove_dir_all(&directory).expect("the directory is ours");
}
