//! What a message costs in each session: `cargo run --release -p smtp --example speed`.

use std::{hint::black_box, time::Instant};

use smtp::{
    Client, Needs, Reply, Server,
    client::{self, Transaction},
    server::{Config, Event},
};

const MESSAGES: u32 = 200_000;
const READ: usize = 16 * 1024;

fn main() {
    let line = format!("{}\r\n", "x".repeat(76));
    for size in [1, 10, 100, 1000] {
        let text = format!("Subject: speed\r\n\r\n{}", line.repeat(size * 1024 / line.len()));
        let rounds = MESSAGES / u32::try_from(size).expect("a small number");
        time("server, DATA", size, rounds, &data(&text));
        time("server, BDAT", size, rounds, &bdat(&text));
    }
    let started = Instant::now();
    send(MESSAGES);
    println!("client: {:.2} µs a message", started.elapsed().as_secs_f64() * 1e6 / f64::from(MESSAGES));
}

fn data(text: &str) -> String {
    format!("MAIL FROM:<a@example.org> SIZE={}\r\nRCPT TO:<c@example.net>\r\nDATA\r\n{text}.\r\n", text.len())
}

fn bdat(text: &str) -> String {
    format!("MAIL FROM:<a@example.org>\r\nRCPT TO:<c@example.net>\r\nBDAT {} LAST\r\n{text}", text.len())
}

fn time(what: &str, kib: usize, rounds: u32, wire: &str) {
    let started = Instant::now();
    receive(rounds, wire);
    let micros = started.elapsed().as_secs_f64() * 1e6 / f64::from(rounds);
    let rate = wire.len() as f64 / micros / 1000.0;
    println!("{what}, {kib} KiB: {micros:.2} µs a message, {rate:.2} GB/s");
}

fn receive(rounds: u32, wire: &str) {
    let mut server = Server::new(Config::new("mx.example.org").into());
    server.advance(&mut &b"EHLO client.example.org\r\n"[..]);
    let kept = Reply::new(250, (2, 0, 0), "kept");
    for _ in 0..rounds {
        for mut piece in wire.as_bytes().chunks(READ) {
            loop {
                match server.advance(&mut piece) {
                    Event::NeedInput => break,
                    Event::Mail(_) | Event::Rcpt(_) | Event::BodyStart => server.accept(),
                    Event::Body(text) => {
                        black_box(text);
                    }
                    Event::BodyEnd(_) => server.finish(&kept),
                    other => unreachable!("{other:?}"),
                }
            }
        }
        server.output().clear();
    }
}

fn send(rounds: u32) {
    let mut client = Client::new(client::Config { ehlo_name: "out.example.org".into() });
    for mut input in [&b"220 mx\r\n"[..], b"250-mx\r\n250-SIZE 9999\r\n250 PIPELINING\r\n"] {
        client.advance(&mut input);
    }
    for token in 0..rounds {
        client.start(Transaction {
            token,
            sender: "a@example.org".to_owned().try_into().expect("an address"),
            recipients: vec!["c@example.net".parse().expect("an address")],
            size: 100,
            needs: Needs::default(),
        });
        client.output().clear();
        let envelope = &b"250 2.1.0 sender ok\r\n250 2.1.5 recipient ok\r\n354 go ahead\r\n"[..];
        for mut input in [envelope, b"250 2.0.0 kept as 0123456789abcdef\r\n"] {
            while !matches!(black_box(client.advance(&mut input)), client::Event::NeedInput) {
                client.body_sent();
            }
        }
    }
}
