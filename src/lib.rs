//! pgfanout keeps any number of PostgreSQL replicas equal to a primary, through RabbitMQ. This page is its
//! architecture; the README says how to use it, and the [guide] how to run it and what to do when something is wrong.
//!
//! # The one idea: a delta between two snapshots
//!
//! A [snapshot](snapshot::Snapshot) is PostgreSQL's own `pg_snapshot`: one moment of the primary's history.
//! Triggers log only *which keys* changed, with the transaction's id. The **delta** from one snapshot to a
//! later one is the keys that some transaction changed which the later one sees and the earlier one does not,
//! each with its row *as it stands at the later one*, or its absence. It is read in one REPEATABLE READ
//! transaction.
//!
//! - A **batch** is the delta from the last published snapshot to now, with a name: a number and a token.
//! - **Catching up** is the delta from one replica's own position to now, read by that replica.
//! - **Copying** is the delta from nothing: rows in chunks at whatever moment each was read, then the delta
//!   from the snapshot at which the copy began.
//!
//! A replica's **position** is the snapshot at which it stands, written in the transaction that applies the
//! rows. A batch that ends within the position is skipped; one that starts within it is applied; one that
//! starts beyond it shows that something is missing, and the replica catches up. A delta carries states and
//! not operations (but for [tables without a key](protocol), where each line names its transaction), so an overlap
//! is harmless, a batch may be cut again after a crash, and whatever goes wrong in between (a lost message, a
//! dropped queue, a broker without its disk) is healed by one and the same act.
//! The broker is there for speed and fan-out; the truth is the changelog on the primary and the position on
//! the replica.
//!
//! Row images in the order of a log would not do: a trigger fires later than its row changed, so that order
//! is not the order of the changes. The order in which keys are logged carries no meaning here.
//!
//! # What holds
//!
//! - **Exact**: after each commit every table that follows equals the primary's at the position.
//! - **Whole**: no reader of a replica sees a part of a transaction, however large.
//! - **Nothing lost, nothing twice, never backwards**, whatever is killed, cut, repeated or restored:
//!   [`protocol`] has the argument.
//! - **The application never fails because of us**, nor waits for other writers because of us.
//! - **Isolation**: a replica that is dead, slow or broken changes nothing for the others or the primary.
//! - **Bounded**: memory, changelog, queues and log lines have limits; at one of them a replica catches up or
//!   is copied later, and nothing is lost silently.
//! - **Self-healing**: what can pass is tried again for ever; what needs an operator says so in one line.
//! - **No trust**: values are parameters, identifiers quoted, names in SQL schema-qualified; a message that
//!   is not ours never reaches a table and never blocks what follows.
//!
//! # The way of a change, in the order to read the modules
//!
//! 1. `main.rs` reads [arguments](cli) and [configuration](config), starts the [log], and calls one
//!    of the [commands]; [`prepare`] compares the configuration with the databases. All connections to databases are
//!    [`postgres::Session`]s, within [`tls`] where that is wished, all failures [`error::Error`]s.
//! 2. The words: [`snapshot`], [`record`] (the text of a row), [`change`] (a line of a message), [`batch`],
//!    [`shape`] (a table's columns and key, and the SQL that follows from them).
//! 3. On the [primary]: [`primary::install`] puts the schema `pgfanout` there, [`primary::capture`] the
//!    triggers of a table (`sql/primary/`). A transaction writes; its triggers log keys; if the publisher is
//!    asleep, [by its flag](primary::gate), they notify.
//! 4. [`pg_listener`] is woken, and its session ([`listening`]) opens a [delta](primary::delta) over the tables
//!    that changed lately; where there are none, it [looks](primary::look) first. While it reads the rows, and
//!    [cuts](cut) them into parts, it records the [batch](primary::batch) on the primary, which flushes all that
//!    the delta saw; no part is shown to anybody before. [`publisher`] hands them to the [broker] and tells when
//!    the broker has the batch safe; the next one is cut meanwhile. Under load batches gather for a while first.
//! 5. For each replica, [`consumer`] takes deliveries, and offers their parts to its [`applier`], until
//!    they are committed; then it acknowledges. [`applying`] asks the [`protocol`] what is due.
//! 6. On the [replica]: [`replica::apply`] writes a part (TRUNCATE, then the keys are deleted, then the rows
//!    copied in) in a transaction with the [position](replica::state), [`replica::at_once`] a small batch in a
//!    single round trip; [`replica::catch_up`] does the same with a delta from the primary. [`replica::join`] compares the tables with those that are captured,
//!    [`replica::create`] makes what is missing, [`replica::copy`] fills it, [`replica::chunk`] by chunk,
//!    which is [read](replica::reading) once for all replicas that are copied at the time.
//! 7. The applier reports its position to the primary, which [trims](primary::trim) what all have.
//!    [`status`] reads all of it, without the process, and [`verify`] proves that the rows are equal.
//!
//! Without a broker steps 4 and 5 are shorter: the listener wakes the appliers, and each catches up.
//!
//! # One history
//!
//! Transaction ids and numbers of batches come round again for other changes when a primary is put back to a
//! backup. So every moment of the primary that a replica's rows depend on has a name there: a number and a
//! random token, recorded before the replica commits what it read. That is so for the position, and for each
//! table that stands apart from it. Whenever a connection to the primary is made, and before catching up from
//! where batches from the queue have led, [the replica's names are compared](replica::join::compare_histories)
//! with the primary's record; a name that it does not know is of another history, and nothing is applied.
//!
//! What is in the queue may be of a history that was lost, too. So each publisher that begins starts a new
//! **term**, which its batches carry, and so does a replica's position. A batch of another term is not applied:
//! the replica catches up instead, from the primary, which tells the term that is valid there since the server
//! was started. A dump takes all of this along to another database; there the installation finds that it is
//! not where it was made, and begins anew under another epoch.
//!
//! # The life of an actor
//!
//! ```text
//! Replicator ─┬─ PgListener ──Publish──► Publisher
//!             └─ for each replica: Consumer ──Apply──► Applier
//! ```
//!
//! An actor has one duty and one session. Data goes down as a message; the answer is the acknowledgement,
//! and the sender keeps what it sent until then. [`life`] is what all share: the session is taken out for
//! each piece of work and put back when that went well. A failure drops the session and stops the actor; its
//! supervisor starts its next life, which connects after a delay that doubles with each failure in a row, up
//! to 5 seconds, or after 20 where only an operator can help. There is no other way of recovering. actix does not notice panics: each owner looks every
//! second whether what it owns lives, and makes it anew. A [`seat`] on the primary (publishing) and on each
//! replica (applying) has a second process stand by; its consumer takes no messages. Stages that wait
//! for a server hear at once that the root [ends](life::Ending). To end, sources stop first, then
//! [`Drain`](replicator::Drain) goes down the line, so that its answer means that all before it is done.
//!
//! # What happens when something fails
//!
//! | what | then |
//! |---|---|
//! | a link, a server, the process | next life, from the position; a batch not known to be published is cut again |
//! | a link goes silent | whoever waits asks [the server](postgres) whether it works on the answer; if not: next life, which ends what the dead session left there |
//! | the process is stopped and its connections stay | another one that stands by takes its [seats](seat); what it may still write when it goes on names what it replaces, and fails |
//! | the primary | replicas apply what is in their queues, and wait |
//! | the broker, or one short of memory | no batch is opened while it does not accept messages; then one delta has it all |
//! | a binding, a queue or the exchange deleted | it is declared again before the next batch, or 5 seconds later at most |
//! | a message lost, a queue dropped or deleted | the next batch does not fit, or the position lags behind what was published: the replica catches up |
//! | the beginning of a batch without its end | its transaction is rolled back; the batch is cut again, or the replica catches up |
//! | a message that is not ours, or not [sealed](broker) by a key of ours | it is rejected to the queue `EXCHANGE.rejected` |
//! | a message that cannot be read at all | the queue is emptied, and the replica catches up |
//! | a row larger than a message may be | it travels as a reference, and the replica catches up; large rows are read in pieces |
//! | a copy is interrupted | it goes on with the chunks that are not noted as copied |
//! | a table was altered, on either side | the replica compares it before it applies more, and halts if it does not fit; what may have lost values is copied anew |
//! | a replica refuses a row | it halts with table and constraint, applies nothing wrong, and looks again; or it [sets the table aside](replica::isolate), if that is wanted |
//! | a replica is [paused](replica::session) | its sessions are ended, none that may write is opened; its messages go back to the queue |
//! | a replica was away for longer than the changelog goes back | its tables are copied anew |
//! | a replica was put back to an older state | it catches up, or its tables are copied anew |
//! | the primary was put back, moved or replaced | replicas that have what it does not know halt, and say how to have them copied anew |

#[cfg(doc)]
pub mod guide;

pub mod check;
pub mod cli;
pub mod commands;
pub mod config;
pub mod error;
pub mod log;
pub mod manual;
pub mod pattern;
pub mod postgres;
pub mod prepare;
pub mod reload;
pub mod secret;
pub mod service;
pub mod tls;

pub mod batch;
pub mod change;
pub mod record;
pub mod shape;
pub mod snapshot;

pub mod primary;

pub mod cut;
pub mod listening;
pub mod pg_listener;

pub mod broker;
pub mod publisher;

pub mod protocol;

pub mod applier;
pub mod applying;
pub mod consumer;
pub mod replica;

pub mod life;
pub mod replicator;
pub mod seat;

pub mod status;

pub mod verify;
