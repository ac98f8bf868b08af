//! Many links to one manager from one process: workers that take nothing in and attempt nothing, for measuring what they cost it.
//!
//! `cargo run --release -p cluster --example links -- DIRECTORY COUNT` makes the identities and prints their keys, a line each, for
//! `posthouse nodes add-key`; with `HOST:PORT PIN` behind it, it links them all, until it is ended.

use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};

use base::{NodeId, Shutdown};
use cluster::{
    authority::Pin,
    identity::Identity,
    worker::{Assignment, Hands, Options, Worker},
};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match &arguments[..] {
        [directory, count] => keys(directory.as_ref(), count),
        [directory, count, manager, pin] => link(directory.as_ref(), count, manager, pin),
        _ => Err("usage: links DIRECTORY COUNT [HOST:PORT PIN]".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("links: {error}");
            ExitCode::FAILURE
        }
    }
}

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn keys(directory: &Path, count: &str) -> Outcome {
    for identity in identities(directory, count)? {
        println!("{}", identity.public_key());
    }
    Ok(())
}

fn link(directory: &Path, count: &str, manager: &str, pin: &str) -> Outcome {
    let pin: Pin = pin.parse()?;
    let identities = identities(directory, count)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let shutdown = Shutdown::new();
    let _inside = runtime.enter();
    let workers: Vec<Worker> = identities
        .iter()
        .map(|identity| {
            let worker = Worker::new(options(manager, pin), identity);
            worker.run(Arc::new(Idle), &shutdown);
            worker
        })
        .collect();
    runtime.block_on(std::future::pending::<()>());
    drop(workers);
    Ok(())
}

/// Each in a folder of its own, made at the first time.
fn identities(directory: &Path, count: &str) -> Outcome<Vec<Identity>> {
    let count: u16 = count.parse()?;
    let make = |number: u16| -> Outcome<Identity> {
        let folder = directory.join(number.to_string());
        std::fs::create_dir_all(&folder)?;
        let mut id = [0; 16];
        id[..2].copy_from_slice(&number.to_be_bytes());
        Ok(Identity::open_or_make(&folder, NodeId::from_bytes(id))?)
    };
    (1..=count).map(make).collect()
}

fn options(manager: &str, pin: Pin) -> Options {
    Options {
        manager: manager.to_owned(),
        pin,
        name: None,
        ehlo: "links.example".to_owned(),
        doors: Vec::new(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        credit_works: 1,
        credit_bytes: 1,
        cache_bytes: 0,
        hold: Duration::from_secs(60),
    }
}

/// What it is given it gives back.
#[derive(Debug)]
struct Idle;

impl Hands for Idle {
    fn attempt(&self, assignment: Assignment) {
        drop(assignment);
    }
}
