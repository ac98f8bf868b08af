//! House habits that a machine can see, checked over every file of the checkout.
//!
//! A fault names file and line, and what to do. The rules themselves are in docs/STYLE.md.

mod code;
mod crates;
mod links;
mod rust;
mod tree;
mod words;

use tree::{Fault, File, tree};

/// Fails with all faults that `rule` finds in files that end in one of `endings`.
fn check(endings: &[&str], rule: impl Fn(&File) -> Vec<Fault>) {
    let files = tree();
    let of_interest =
        |file: &&File| !file.is_made() && endings.iter().any(|ending| file.path.ends_with(ending));
    report(&files.iter().filter(of_interest).flat_map(rule).collect::<Vec<_>>());
}

/// Fails with all faults, a line each.
fn report(faults: &[Fault]) {
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert!(lines.is_empty(), "{} untidy:\n{}", lines.len(), lines.join("\n"));
}

#[test]
fn no_file_is_over_600_lines() {
    check(&[".rs"], rust::long_file);
}

#[test]
fn every_function_fits_a_screen() {
    check(&[".rs"], rust::long_functions);
}

#[test]
fn every_file_says_first_what_it_is_for() {
    check(&[".rs"], rust::no_purpose);
}

#[test]
fn nothing_is_unwrapped_outside_tests() {
    let files = tree();
    report(&files.iter().flat_map(|file| rust::unwraps(file, &files)).collect::<Vec<_>>());
}

#[test]
fn nothing_is_left_to_do_or_to_debug() {
    check(&[".rs"], rust::leftovers);
}

#[test]
fn no_test_is_ignored() {
    check(&[".rs"], rust::ignored_tests);
}

#[test]
fn every_allowed_lint_has_a_reason() {
    check(&[".rs"], rust::allowed_without_reason);
}

#[test]
fn files_and_modules_are_named_after_duties() {
    check(&[".rs"], rust::empty_names);
}

#[test]
fn words_of_the_glossary_are_kept() {
    check(&[".rs", ".md", ".toml", ".html", ".js", ".sh", ".proto", ".sql"], words::forbidden);
}

#[test]
fn no_path_of_somebodys_machine_is_named() {
    check(&[""], words::machine_paths);
}

#[test]
fn what_is_made_by_a_program_is_made_of_what_it_names() {
    let files = tree();
    report(&files.iter().flat_map(|file| tree::made_of_another(file, &files)).collect::<Vec<_>>());
}

#[test]
fn links_between_documents_resolve() {
    let files = tree();
    report(&files.iter().flat_map(|file| links::broken(file, &files)).collect::<Vec<_>>());
}

#[test]
fn every_crate_keeps_the_lints_and_versions_of_the_workspace() {
    check(&["Cargo.toml"], crates::own_lints_or_versions);
}

#[test]
fn crates_import_only_what_lies_below_them() {
    check(&["Cargo.toml"], crates::imports_upwards);
}
