//! Free ports on 127.0.0.1, and random names.

use std::{collections::HashSet, fs, io::Read, net::TcpListener, sync::Mutex};

/// Ports handed out by this process: a server that is down at the moment still has its port.
static TAKEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);

/// Returns a port that nobody listens on and that this process has not handed out before.
///
/// It lies below the range that the system takes for outgoing connections: otherwise a client that
/// keeps trying to reach a server that is down is one day given that very port, connects to itself,
/// and the server cannot come back.
#[must_use]
pub fn free() -> u16 {
    let (low, high) = (15_000, below_outgoing());
    for _ in 0..1000 {
        let seed = u16::from_str_radix(&random_hex(2), 16).expect("two bytes of hex");
        let port = low + seed % (high - low);
        let fresh = TAKEN.lock().unwrap().get_or_insert_default().insert(port);
        if fresh && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
    panic!("no free port between {low} and {high}");
}

/// The first port used for outgoing connections, or a usual value where that leaves us no room.
fn below_outgoing() -> u16 {
    fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range")
        .ok()
        .and_then(|range| range.split_whitespace().next()?.parse().ok())
        .filter(|first| *first > 16_000)
        .unwrap_or(32_768)
}

/// Returns `bytes` random bytes as hexadecimal digits, for names and passwords.
#[must_use]
pub fn random_hex(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    fs::File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut random)).expect("/dev/urandom");
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}
