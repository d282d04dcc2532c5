//! The published design's own listener, in Python.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use pgfanout_testbed::{eventually, world::World};

use super::until_captured;
use crate::support::{Mode, PATIENCE, program, world};

/// A running `tests/listener.py`.
struct Script {
    child: Child,
    printed: Arc<Mutex<Vec<String>>>,
}

impl Script {
    fn start(world: &World) -> Self {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/listener.py");
        // The distribution's own, which has the distribution's pika.
        let mut child = Command::new("/usr/bin/python3")
            .args([script, &world.broker().url(), world.exchange()])
            .current_dir(world.directory())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 is installed: tests/setup.sh does that");
        let printed = Arc::new(Mutex::new(Vec::new()));
        let (output, lines) = (child.stdout.take().unwrap(), Arc::clone(&printed));
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        Self { child, printed }
    }

    async fn until_printed(&self, expected: &[&str]) {
        eventually(PATIENCE, "the listener prints what it heard", async || {
            let printed = self.printed.lock().unwrap().clone();
            if printed == expected { Ok(()) } else { Err(printed) }
        })
        .await;
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn the_published_listener_works_as_it_is() {
    let world = world(Mode::Broker, 1).build().await;
    world.primary().execute("CREATE TABLE users (id int PRIMARY KEY, name text)").await;
    let script = Script::start(&world);
    let mut expected = vec!["listening"];
    script.until_printed(&expected).await;
    let _pgfanout = program().run(&world.config().broker("max_changes_per_message = 1").write());
    until_captured(&world).await;
    let steps: [(&str, &[&str]); 5] = [
        (
            "INSERT INTO users VALUES (1, 'ann'), (2, 'al')",
            &["users INSERT {'id': 1, 'name': 'ann'} None", "users INSERT {'id': 2, 'name': 'al'} None"],
        ),
        (
            "UPDATE users SET name = 'alfonso' WHERE id = 2",
            &["users UPDATE {'id': 2, 'name': 'alfonso'} {'id': 2, 'name': 'al'}"],
        ),
        (
            "UPDATE users SET name = NULL WHERE id = 1",
            &["users UPDATE {'id': 1, 'name': None} {'id': 1, 'name': 'ann'}"],
        ),
        ("DELETE FROM users WHERE id = 2", &["users DELETE None {'id': 2, 'name': 'alfonso'}"]),
        ("TRUNCATE users", &["users TRUNCATE None None"]),
    ];
    for (statement, lines) in steps {
        world.primary().execute(statement).await;
        expected.extend(lines);
        script.until_printed(&expected).await;
    }
}
