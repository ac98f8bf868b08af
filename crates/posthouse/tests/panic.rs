//! A panic on any thread ends the process, plainly and with the code of our own bugs.

use std::process::Command;

const CHILD: &str = "POSTHOUSE_TEST_PANICS";

#[test]
fn a_panic_ends_the_process_with_70_and_says_that_it_is_our_bug() {
    if std::env::var_os(CHILD).is_some() {
        posthouse::failure::exit_on_panic();
        let ended = std::thread::spawn(|| panic!("seven is even")).join();
        unreachable!("the process has outlived its panic: {ended:?}");
    }
    let me = std::env::current_exe().unwrap();
    let output = Command::new(me).arg("--nocapture").env(CHILD, "1").output().unwrap();
    let shown = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(70), "{shown}");
    assert!(
        shown.contains("error: this is our bug: seven is even (crates/posthouse/tests/panic.rs:"),
        "{shown}"
    );
    assert!(shown.contains("\nhint: "), "{shown}");
}
