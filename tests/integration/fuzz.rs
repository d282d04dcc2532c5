//! Random schemas, random statements of concurrent clients, random faults: at every moment that is seen, the replica
//! is what the primary was at the position. A failure prints its seed and the smallest script that still fails.
//! `make fuzz` runs it for as long as asked.

mod bench;
mod check;
mod client;
mod definition;
mod dice;
mod failure;
mod history;
mod large;
mod partitions;
mod planted;
mod reactions;
mod replica;
mod schema;
mod script;
mod shrink;
mod statements;

use std::{
    cell::Cell,
    env,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use futures_util::future::join_all;
use pgfanout_testbed::world::World;

use bench::{Done, leave, play, prepare};
use script::Case;
use shrink::shrink;

/// These are always tried.
const SEEDS: [u64; 2] = [1, 2];

/// How many are tried at the same time: they wait for servers most of the time.
const LANES: usize = 2;

/// How long smaller scripts are looked for.
const SHRINKING: Duration = Duration::from_secs(180);

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok().filter(|text| !text.is_empty())?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

/// Plays the case of this seed, in a world of its own.
async fn attempt(seed: u64) -> Done {
    let started = Instant::now();
    let (world, case) = prepare(seed).await;
    let done = examine(&case, world, None).await.unwrap_or_else(|found| panic!("{found}"));
    eprintln!(
        "seed {seed}: {:?}, {} tables, {done:?} in {:?}",
        case.servers,
        case.tables.len(),
        started.elapsed()
    );
    done
}

/// Plays the case in this empty world. What is found is told with what it takes to play it again: the seed, and the
/// smallest script.
async fn examine(case: &Case, world: World, harm: Option<&str>) -> Result<Done, String> {
    let played = play(case, &world, harm).await;
    leave(world).await;
    let failure = match played {
        Ok(done) => return Ok(done),
        Err(failure) => failure,
    };
    eprintln!("seed {} fails: {failure}\n\nlooking for a smaller script", case.seed);
    let smallest = shrink(case, &failure, harm, SHRINKING).await;
    Err(format!("make fuzz SECONDS=1 SEED={}\n{failure}\n{smallest}", case.seed))
}

#[tokio::test]
async fn fuzz() {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let first = number("PGFANOUT_FUZZ_SEED").unwrap_or(now);
    let done = match number("PGFANOUT_FUZZ_SECONDS") {
        None => {
            // An odd one: very many rows may take minutes where tests run side by side.
            let first = first | 1;
            eprintln!("to repeat it: make fuzz SECONDS=1 SEED={first}");
            join_all(SEEDS.into_iter().chain([first]).map(attempt)).await
        }
        Some(seconds) => {
            eprintln!("fuzzing for {seconds} s from seed {first} on");
            let until = Instant::now() + Duration::from_secs(seconds);
            let next = Cell::new(first);
            let lane = async |_| {
                let mut done = Vec::new();
                for seed in std::iter::from_fn(|| Some(next.replace(next.get().wrapping_add(1)))) {
                    if Instant::now() > until {
                        break;
                    }
                    done.push(attempt(seed).await);
                }
                done
            };
            join_all((0..LANES).map(lane)).await.concat()
        }
    };
    let sum = |count: fn(&Done) -> usize| done.iter().map(count).sum::<usize>();
    let (committed, moments) = (sum(|done| done.counts.committed), sum(|done| done.moments));
    let (taken, refused) = (sum(|done| done.counts.taken), sum(|done| done.counts.refused));
    eprintln!(
        "{} cases: {committed} transactions, {taken} statements taken and {refused} refused, {moments} moments compared",
        done.len()
    );
    assert!(taken > refused && moments > 10 * done.len(), "it hardly did anything");
}
