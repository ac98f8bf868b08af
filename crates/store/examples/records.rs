//! What a message costs in the log: one reception and one end, in batches, as the projector writes.
//!
//! `cargo run --release -p store --example records [FOLDER]`; CPU time is user and system of the
//! one thread, without making the records.

use std::{error::Error, time::Instant};

use base::{MessageId, Timestamp, WorkId};
use store::records::{
    Conclusion, Duplicate, Outcome, Position, Reception, Record, Records, Retention, Source, What,
};

const MESSAGES: usize = 400_000;
const BATCH: usize = 250;
const FORGOTTEN: usize = 2000;
const POSITION: Position = Position { spool: 1, sequence: 0 };

struct Message {
    id: MessageId,
    sender: String,
    recipient: String,
    reply: String,
}

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).map_or_else(std::env::temp_dir, Into::into);
    let path = folder.join(format!("records-bench-{}.db", std::process::id()));
    let mut records = Records::open(&path)?;
    let (mut making, mut writing) = (0.0, 0.0);
    let mut former: Vec<Message> = Vec::new();
    for batch in 0..MESSAGES / BATCH {
        let before = cpu_seconds()?;
        let now: Vec<Message> = (0..BATCH).map(|i| message(batch * BATCH + i)).collect();
        let rows: Vec<Record<&str>> =
            now.iter().map(reception).chain(former.iter().map(conclusion)).collect();
        let made = cpu_seconds()?;
        let started = Instant::now();
        records.write(&rows, POSITION)?;
        writing += started.elapsed().as_secs_f64();
        making += made - before;
        former = now;
    }
    let cpu = cpu_seconds()? - making;
    let durable = Instant::now();
    records.make_durable()?;
    let durable = durable.elapsed();
    let bytes = std::fs::metadata(&path)?.len();
    let (began, before) = (Instant::now(), cpu_seconds()?);
    let (mut steps, mut longest) = (0, 0.0_f64);
    loop {
        let step = Instant::now();
        let retention = Retention { keep: None, max_bytes: Some(0) };
        if records.forget(retention, Timestamp::default(), FORGOTTEN)?.looked_at == 0 {
            break;
        }
        steps += 1;
        longest = longest.max(step.elapsed().as_secs_f64());
    }
    let forgetting = (cpu_seconds()? - before, began.elapsed().as_secs_f64());
    drop(records);
    std::fs::remove_file(&path)?;
    let each = |seconds: f64| seconds * 1e6 / MESSAGES as f64;
    println!("{MESSAGES} messages in batches of {BATCH}, two records each");
    println!(
        "{:.2} us CPU and {:.2} us a message, {} bytes",
        each(cpu),
        each(writing),
        bytes / MESSAGES as u64
    );
    println!("making it durable: {durable:?}");
    println!(
        "forgetting it: {:.2} us CPU and {:.2} us a message, the longest of {steps} steps {:.1} ms",
        each(forgetting.0),
        each(forgetting.1),
        longest * 1e3
    );
    Ok(())
}

fn message(number: usize) -> Message {
    Message {
        id: MessageId::generate(Timestamp::from_millis(1_795_000_000_000 + number as u64 / 8)),
        sender: format!("sender{}@example.com", number % 1000),
        recipient: format!("recipient{}@example.net", number * 7919 % 10_007),
        reply: format!("250 2.0.0 Ok: queued as {number:012X}"),
    }
}

fn reception(message: &Message) -> Record<&str> {
    record(
        message,
        What::Reception(Reception {
            sender: &message.sender,
            recipient: &message.recipient,
            size: 10_240,
            source: Source::Smtp,
            client: "192.0.2.55:40022",
            helo: "client.example.com",
            protocol: "ESMTP",
        }),
    )
}

fn conclusion(message: &Message) -> Record<&str> {
    record(
        message,
        What::Conclusion(Conclusion {
            epoch: 0x1234_5678_9abc,
            outcome: Outcome::Delivered,
            reason: "reply",
            remote_host: "mx.example.net",
            remote_address: "198.51.100.7:25",
            reply: &message.reply,
            attempt: 1,
            delay: std::time::Duration::from_micros(12_345),
            duplicate: Duplicate::No,
        }),
    )
}

fn record<'a>(message: &Message, what: What<&'a str>) -> Record<&'a str> {
    let work = WorkId { message: message.id, index: 0 };
    Record { work, recipient: 0, at: message.id.time(), node: "mx1.example.com", what }
}

/// CPU time of this thread so far.
fn cpu_seconds() -> Result<f64, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat")?;
    let nanoseconds: f64 = stat.split_whitespace().next().unwrap_or("0").parse()?;
    Ok(nanoseconds / 1e9)
}
