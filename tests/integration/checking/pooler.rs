//! A real PgBouncer in front of a database.

use std::{
    fs,
    net::TcpStream,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use pgfanout_testbed::{
    account::Account,
    port,
    premises::{Farewell, Premises},
    world::Database,
};

const READY: Duration = Duration::from_secs(30);

/// A running pooler; everybody who connects to it is the database's superuser.
pub(super) struct Pooler {
    process: Child,
    _premises: Premises,
    port: u16,
    database: String,
}

impl Pooler {
    pub(super) fn start(database: &Database, mode: &str) -> Self {
        let account = Account::for_servers();
        let premises = Premises::new(account, Farewell::Kill);
        let (file, port) = (premises.path().join("pgbouncer.ini"), port::free());
        let url = database.url();
        let password = url.split("postgres:").nth(1).unwrap().split('@').next().unwrap();
        let settings = format!(
            "[databases]\n{name} = host=127.0.0.1 port={server} user=postgres password={password}\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
             auth_type = any\npool_mode = {mode}\nignore_startup_parameters = options\n",
            name = database.name(),
            server = database.cluster().port(),
        );
        fs::write(&file, settings).unwrap();
        let mut command = Command::new("/usr/sbin/pgbouncer");
        command.arg(&file).current_dir(premises.path()).stdout(Stdio::null()).stderr(Stdio::null());
        if let Some(account) = account {
            account.own_all(premises.path());
            account.run(&mut command);
        }
        let process = command.spawn().expect("pgbouncer is installed: tests/setup.sh does that");
        let started = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < READY, "pgbouncer answers within {READY:?}");
            thread::sleep(Duration::from_millis(20));
        }
        Self { process, _premises: premises, port, database: database.name().to_owned() }
    }

    pub(super) fn url(&self) -> String {
        format!("postgresql://anybody@127.0.0.1:{}/{}", self.port, self.database)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
