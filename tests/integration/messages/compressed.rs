//! Bodies that travel compressed.

use lapin::options::ConfirmSelectOptions;
use pgfanout_testbed::world::World;
use serde_json::Value;

use super::{
    listener::Listener,
    rejected::{forge, with},
    until_captured, until_following,
};
use crate::support::{Mode, PATIENCE, program, until_same, world};

const COMPRESSED: &str = "compression = \"zstd\"";

/// How large a body may become: that of a part, and a change as large as the configuration allows.
const LARGEST: usize = 1_000_000 + (1 << 20);

#[tokio::test]
async fn large_bodies_are_compressed_and_say_so() {
    let world: World = world(Mode::Broker, 1).build().await;
    world.primary().execute("CREATE TABLE t (id int PRIMARY KEY, a text)").await;
    let mut listener = Listener::bind(&world).await;
    let key = "hmac_key = \"a key that is long enough to seal\"";
    let _pgfanout = program().run(&world.config().broker(&format!("{COMPRESSED}\n{key}")).write());
    until_captured(&world).await;
    until_following(&world).await;
    world.primary().execute("INSERT INTO t VALUES (0, 'small')").await;
    let small = listener.next().await;
    assert_eq!(small.delivery.properties.content_encoding(), &None, "not worth it");
    assert_eq!(small.lines().len(), 1);
    world.primary().execute("INSERT INTO t SELECT n, 'row ' || n FROM generate_series(1, 2000) n").await;
    let large = listener.next().await.delivery;
    assert_eq!(large.properties.content_encoding().as_ref().map(|encoding| encoding.as_str()), Some("zstd"));
    let body = zstd::bulk::decompress(&large.data, LARGEST).unwrap();
    let lines: Vec<&str> = std::str::from_utf8(&body).unwrap().lines().collect();
    assert_eq!(lines.len(), 2000);
    assert!(lines.contains(
        &r#"{"schema":"public","table":"t","operation":"INSERT","new_record":{"id":7,"a":"row 7"},"old_record":null}"#
    ));
    assert!(large.data.len() * 5 < body.len(), "{} of {} bytes", large.data.len(), body.len());
    until_same(&world, &["t"]).await;
}

#[tokio::test]
async fn what_does_not_decompress_is_rejected_and_blocks_nothing() {
    let world = world(Mode::Broker, 1).build().await;
    world.primary().execute("CREATE TABLE t (id int PRIMARY KEY, a text)").await;
    let mut listener = Listener::bind(&world).await;
    let mut pgfanout = program().run(&world.config().broker(COMPRESSED).write());
    until_captured(&world).await;
    until_following(&world).await;
    world.primary().execute("INSERT INTO t VALUES (1, 'one')").await;
    let ours = with(&listener.next().await.delivery.properties, &[]);
    let channel = &listener.channel;
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    // A few kilobytes that would fill 100 MB.
    let bomb = zstd::bulk::compress(&vec![b' '; 100_000_000], 1).unwrap();
    let bodies = [
        ("zstd", bomb.as_slice(), "too large once it is decompressed"),
        ("zstd", b"{}\n", "not of the content-encoding that it names"),
        ("gzip", b"{}\n", "not of the content-encoding that it names"),
    ];
    for (encoding, body, reason) in bodies {
        let mark = pgfanout.mark();
        forge(channel, &world, &ours.clone().with_content_encoding(encoding.into()), body).await;
        world.primary().execute("INSERT INTO t SELECT count(*) + 1 FROM t").await;
        until_same(&world, &["t"]).await;
        let is_told = |line: &Value| line["event"] == "message_rejected";
        // Each kind once.
        if encoding == "zstd" {
            let told = pgfanout.wait_for(mark, "that it was rejected", PATIENCE, is_told).await;
            assert!(told["message"].as_str().unwrap().contains(reason), "{told}");
        }
    }
}
