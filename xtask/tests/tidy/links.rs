//! Links between documents.

use crate::tree::{Fault, File};

/// Links in a Markdown file that lead to no file, folder or heading of the checkout.
pub(crate) fn broken(file: &File, all: &[File]) -> Vec<Fault> {
    if !file.path.ends_with(".md") {
        return Vec::new();
    }
    let text = without_code(&file.text);
    let targets = text.match_indices("](").filter_map(|(at, _)| {
        let target = text[at + 2..].split([')', ' ', '\n']).next()?;
        Some((at, target))
    });
    targets
        .filter(|(_, target)| !target.contains("://") && !target.starts_with("mailto:"))
        .filter(|(_, target)| !leads_somewhere(&file.path, target, all))
        .map(|(at, target)| file.fault_at(at, format!("the link to `{target}` leads nowhere")))
        .collect()
}

fn leads_somewhere(from: &str, target: &str, all: &[File]) -> bool {
    let (path, heading) = target.split_once('#').unwrap_or((target, ""));
    let path = if path.is_empty() { from.to_owned() } else { resolve(from, path) };
    match all.iter().find(|file| file.path == path) {
        Some(file) => heading.is_empty() || headings(&file.text).any(|known| known == heading),
        None => heading.is_empty() && all.iter().any(|file| file.path.starts_with(&format!("{path}/"))),
    }
}

/// A path as a document at `from` names it, from the root of the checkout.
fn resolve(from: &str, path: &str) -> String {
    let mut parts: Vec<&str> = if path.starts_with('/') { Vec::new() } else { from.split('/').collect() };
    parts.pop();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The names by which links reach the headings of a document.
fn headings(text: &str) -> impl Iterator<Item = String> {
    let lines = text.lines().filter(|line| line.starts_with('#'));
    lines.map(|line| {
        let title = line.trim_start_matches('#').trim().to_lowercase();
        let kept = title.chars().filter(|c| c.is_alphanumeric() || " -_".contains(*c));
        kept.map(|c| if c == ' ' { '-' } else { c }).collect()
    })
}

/// The text with what stands in code, fenced or in a line, blanked.
fn without_code(text: &str) -> String {
    let mut fenced = false;
    let lines = text.split('\n').map(|line| {
        let is_fence = line.trim_start().starts_with("```");
        fenced ^= is_fence;
        let in_code = |index: usize| fenced || is_fence || index % 2 == 1;
        let parts = line.split('`').enumerate();
        let blanked = |part: &str| " ".repeat(part.len());
        parts
            .map(|(index, part)| if in_code(index) { blanked(part) } else { part.to_owned() })
            .collect::<Vec<_>>()
            .join(" ")
    });
    lines.collect::<Vec<_>>().join("\n")
}

#[test]
fn a_link_to_a_missing_file_or_heading_is_found() {
    let page = |path: &str, text: &str| File { path: path.into(), text: text.into() };
    let all = [page("docs/STYLE.md", "# Style\n## What we do\n"), page("docs/DECISIONS/0001.md", "")];
    let faults = |text: &str| broken(&page("docs/A.md", text), &all).len();
    assert_eq!(faults("[s](STYLE.md) [s](STYLE.md#what-we-do) [d](DECISIONS) [w](https://a.example/b)"), 0);
    assert_eq!(faults("[s](STILE.md)"), 1);
    assert_eq!(faults("[s](STYLE.md#what-we-dont)"), 1);
    assert_eq!(faults("`[s](STILE.md)`\n```\n[s](STILE.md)\n```\n"), 0);
}
