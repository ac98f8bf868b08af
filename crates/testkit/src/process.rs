//! Processes with a deadline.

use std::{
    io::{Read, Write},
    process::{Child, Command, ExitStatus, Output, Stdio},
    thread,
};

use crate::wait::until;

/// Runs a command to its end, with `input` as its standard input.
///
/// # Panics
/// If it cannot be started or does not end in time.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Output {
    let what = format!("{command:?}");
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap_or_else(|error| panic!("{what}: {error}"));
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_vec();
    // One that does not read to the end has its reasons.
    let writer = thread::spawn(move || drop(stdin.write_all(&input)));
    let stdout = drain(child.stdout.take().expect("it is piped"));
    let stderr = drain(child.stderr.take().expect("it is piped"));
    let status = ended(&mut child, &what);
    writer.join().expect("it only writes");
    let bytes = |reader: thread::JoinHandle<Vec<u8>>| reader.join().expect("it only reads");
    Output { status, stdout: bytes(stdout), stderr: bytes(stderr) }
}

/// Waits for the end of a process.
///
/// # Panics
/// If it does not end in time; then it is killed.
pub(crate) fn ended(child: &mut Child, what: &str) -> ExitStatus {
    let mut guard = Guard(Some(child));
    let status = until(&format!("the end of {what}"), || {
        let child = guard.0.as_mut().expect("it is taken below");
        child.try_wait().expect("it is our child")
    });
    guard.0 = None;
    status
}

/// Kills a process that outlives the wait for its end.
struct Guard<'c>(Option<&'c mut Child>);

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            // It may have ended just now.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn drain(mut from: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before it broke is all there is.
        let _ = from.read_to_end(&mut bytes);
        bytes
    })
}
