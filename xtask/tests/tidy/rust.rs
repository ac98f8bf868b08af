//! Rules over Rust source.

use std::ops::Range;

use crate::{
    code::{block_after, code_only, words},
    tree::{Fault, File},
};

/// A file has one reason to be read.
const LONGEST_FILE: usize = 600;

/// A function fits a screen.
const LONGEST_FUNCTION: usize = 70;

/// Names that say nothing of a duty.
const EMPTY_NAMES: [&str; 8] = ["util", "utils", "common", "helper", "helpers", "misc", "shared", "types"];

pub(crate) fn long_file(file: &File) -> Vec<Fault> {
    let lines = file.text.lines().count();
    let fault = || file.fault(LONGEST_FILE, format!("{lines} lines; look for the seam and split it"));
    if lines > LONGEST_FILE { vec![fault()] } else { Vec::new() }
}

pub(crate) fn long_functions(file: &File) -> Vec<Fault> {
    let code = code_only(&file.text);
    let long = words(&code, "fn").filter_map(|at| {
        let body = block_after(&code, at)?;
        let lines = code[at..body.end].matches('\n').count() + 1;
        let name = code[at + 2..].trim_start().split(|c: char| !c.is_alphanumeric() && c != '_').next()?;
        // `fn(…)` is a type.
        (lines > LONGEST_FUNCTION && !name.is_empty()).then(|| {
            file.fault_at(
                at,
                format!("`{name}` has {lines} lines; {LONGEST_FUNCTION} fit a screen, so split it"),
            )
        })
    });
    long.collect()
}

pub(crate) fn no_purpose(file: &File) -> Vec<Fault> {
    if file.text.starts_with("//! ") {
        return Vec::new();
    }
    vec![file.fault(1, "begin with `//!` and a sentence that says what the file is for")]
}

pub(crate) fn unwraps(file: &File, all: &[File]) -> Vec<Fault> {
    if !file.path.ends_with(".rs") || is_test_file(file, all) {
        return Vec::new();
    }
    let code = code_only(&file.text);
    let tests = test_blocks(&code);
    let found = [".unwrap()", ".unwrap_err()"].into_iter().flat_map(|call| code.match_indices(call));
    found
        .filter(|(at, _)| !tests.iter().any(|block| block.contains(at)))
        .map(|(at, _)| {
            file.fault_at(at, "no `unwrap` outside tests: handle it, or `expect(\"why it cannot be\")`")
        })
        .collect()
}

pub(crate) fn leftovers(file: &File) -> Vec<Fault> {
    let code = code_only(&file.text);
    let found = ["todo!", "unimplemented!", "dbg!"].into_iter().flat_map(|left| code.match_indices(left));
    found.map(|(at, left)| file.fault_at(at, format!("finish it: no `{left}` lands"))).collect()
}

pub(crate) fn ignored_tests(file: &File) -> Vec<Fault> {
    let code = code_only(&file.text);
    let ignored = code.match_indices("#[ignore");
    ignored.map(|(at, _)| file.fault_at(at, "no test is ignored: mend it or remove it")).collect()
}

pub(crate) fn allowed_without_reason(file: &File) -> Vec<Fault> {
    let code = code_only(&file.text);
    let openings = ["#[allow(", "#![allow(", "#[expect(", "#![expect("];
    let found = openings.into_iter().flat_map(|opening| code.match_indices(opening));
    found
        .filter(|(at, _)| !code[*at..].split(']').next().unwrap_or_default().contains("reason ="))
        .map(|(at, _)| file.fault_at(at, "say why: `#[expect(lint, reason = \"…\")]`"))
        .collect()
}

pub(crate) fn empty_names(file: &File) -> Vec<Fault> {
    let is_empty = |name: &str| EMPTY_NAMES.contains(&name);
    let code = code_only(&file.text);
    let in_path = file.path.split('/').map(|part| part.trim_end_matches(".rs")).filter(|part| is_empty(part));
    let mut faults: Vec<Fault> = in_path.map(|name| (0, name)).map(|found| name_fault(file, found)).collect();
    for at in words(&code, "mod") {
        let name = code[at + 3..].trim_start().split(|c: char| !c.is_alphanumeric() && c != '_').next();
        faults.extend(name.filter(|name| is_empty(name)).map(|name| name_fault(file, (at, name))));
    }
    faults
}

fn name_fault(file: &File, (at, name): (usize, &str)) -> Fault {
    file.fault_at(at, format!("`{name}` says nothing: name it after its duty"))
}

/// The blocks that are compiled for tests alone.
fn test_blocks(code: &str) -> Vec<Range<usize>> {
    code.match_indices("#[cfg(test)]").filter_map(|(at, _)| block_after(code, at)).collect()
}

/// Whether a whole file is compiled for tests alone.
fn is_test_file(file: &File, all: &[File]) -> bool {
    let in_a_test_folder = file.path.split('/').any(|part| part == "tests" || part == "benches");
    let folder = file.path.rsplit_once('/').map_or("", |(folder, _)| folder);
    let declares = format!("#[cfg(test)]\nmod {};", file.stem());
    let parent = |other: &&File| {
        let other_folder = other.path.rsplit_once('/').map_or("", |(folder, _)| folder);
        other_folder == folder || other.path.trim_end_matches(".rs") == folder
    };
    in_a_test_folder || all.iter().filter(parent).any(|other| other.text.contains(&declares))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(text: &str) -> File {
        File { path: "crates/mail/src/outcome.rs".into(), text: text.into() }
    }

    #[test]
    fn a_function_of_71_lines_is_found_and_one_of_70_is_not() {
        let function = |lines: usize| file(&format!("fn a() {{\n{}}}\n", "    b();\n".repeat(lines - 2)));
        assert!(long_functions(&function(70)).is_empty());
        assert_eq!(long_functions(&function(71)).len(), 1);
    }

    #[test]
    fn an_unwrap_is_found_outside_tests_only() {
        let text = "fn a() { b.unwrap(); }\n#[cfg(test)]\nmod tests { fn c() { d.unwrap(); } }\n";
        let faults = unwraps(&file(text), &[]);
        assert_eq!(faults.len(), 1);
        assert!(faults[0].to_string().starts_with("crates/mail/src/outcome.rs:1: "));
        let own = File { path: "crates/mail/src/outcome/model.rs".into(), text: "x.unwrap()".into() };
        assert_eq!(unwraps(&own, &[]).len(), 1);
        assert!(unwraps(&own, &[file("#[cfg(test)]\nmod model;\n")]).is_empty());
    }

    #[test]
    fn what_lacks_a_purpose_a_reason_or_a_name_is_found() {
        assert_eq!(no_purpose(&file("use std::fmt;\n")).len(), 1);
        assert_eq!(allowed_without_reason(&file("#[allow(dead_code)]\n")).len(), 1);
        assert!(allowed_without_reason(&file("#[expect(dead_code, reason = \"x\")]\n")).is_empty());
        assert_eq!(empty_names(&file("mod utils;\n")).len(), 1);
        assert_eq!(
            empty_names(&File { path: "crates/base/src/common.rs".into(), text: String::new() }).len(),
            1
        );
        assert_eq!(leftovers(&file("fn a() { todo!() } // todo!\n")).len(), 1);
        assert_eq!(ignored_tests(&file("#[ignore = \"slow\"]\n")).len(), 1);
        assert_eq!(long_file(&file(&"//\n".repeat(601))).len(), 1);
    }
}
