//! What is not this spool's is refused, in one line that says what to do.

use std::path::Path;

use queue::{QueueError, files::SimulatedDisk};

use crate::bench::{bytes_of, open, segments, try_open};

fn refusal(disk: &SimulatedDisk) -> String {
    let error = try_open(disk.after_kill()).err().expect("it is refused");
    assert!(matches!(error, QueueError::Refused(_)), "{error:?}");
    let text = error.to_string();
    assert!(!text.contains('\n'), "{text}");
    text
}

fn put(disk: &SimulatedDisk, name: &str, bytes: &[u8]) {
    let file = disk.disk().create(&Path::new("/spool/segments").join(name)).expect("it is new");
    file.write_at(bytes, 0).expect("there is room");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_opener_is_refused_while_the_first_lives() {
    let bench = open(SimulatedDisk::default());
    let error = try_open(bench.disk.clone()).err().expect("it is refused").to_string();
    assert!(error.contains("in use by another process"), "{error}");
    let disk = bench.disk.clone();
    drop(bench);
    open(disk);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_no_segments_are_refused() {
    let bench = open(SimulatedDisk::default());
    bench.publish(10, 10).await;
    let disk = bench.close().await;
    let other = open(SimulatedDisk::default()).close().await;
    let theirs = bytes_of(&other, &segments(&other)[0]);
    let ours = bytes_of(&disk, &segments(&disk)[0]);
    let mut newer = ours.clone();
    for copy in [0, 4096] {
        newer[copy + 8] = 9;
    }
    let cases = [
        ("notes.txt", &b"remember"[..], "it is not a file of the spool"),
        ("x.segment", &ours, "it is not a file of the spool"),
        ("00000077.segment", b"remember the milk", "does not begin as a segment"),
        ("00000077.segment", &theirs, "another spool"),
        ("00000077.segment", &newer, "format 9"),
        ("00000077.segment", &ours, "a copy of another file"),
    ];
    for (name, bytes, reason) in cases {
        let disk = disk.after_kill();
        put(&disk, name, bytes);
        let text = refusal(&disk);
        assert!(text.contains(reason) && text.contains(name) && text.contains("move it away"), "{text}");
    }
    assert_eq!(open(disk).statuses().len(), 1, "nothing was touched");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_only_begun_is_made_anew() {
    let bench = open(SimulatedDisk::default());
    let id = bench.publish(10, 10).await;
    let disk = bench.close().await;
    put(&disk, "00000077.segment", &[0; 5000]);
    put(&disk, "00000078.segment", &[]);
    let bench = open(disk);
    assert!(bench.spool.damage().is_empty());
    assert!(bench.statuses().contains_key(&id));
    assert!(!segments(&bench.disk).iter().any(|path| path.ends_with("00000077.segment")));
}
