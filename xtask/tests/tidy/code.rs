//! Rust source without its words: comments, strings and characters blanked, so that braces can be counted.

use std::ops::Range;

/// `source` with the insides of comments, strings and character literals as spaces; lengths and lines stay.
pub(crate) fn code_only(source: &str) -> String {
    let mut code = Vec::with_capacity(source.len());
    let mut rest = source;
    let mut previous = b' ';
    while !rest.is_empty() {
        let length = wordy(rest, previous);
        if length > 0 {
            code.extend(rest[..length].bytes().map(|byte| if byte == b'\n' { b'\n' } else { b' ' }));
        } else {
            let length = rest.chars().next().map_or(1, char::len_utf8);
            code.extend(rest[..length].bytes().map(|byte| if byte.is_ascii() { byte } else { b'_' }));
        }
        let length = length.max(rest.chars().next().map_or(1, char::len_utf8));
        previous = rest.as_bytes()[length - 1];
        rest = &rest[length..];
    }
    String::from_utf8(code).expect("only ASCII was written")
}

/// How long the comment, string or character literal is that `rest` begins with; 0 if with none.
fn wordy(rest: &str, previous: u8) -> usize {
    let end_of = |found: Option<usize>| found.unwrap_or(rest.len());
    if rest.starts_with("//") {
        return end_of(rest.find('\n'));
    }
    if rest.starts_with("/*") {
        return nested_comment(rest);
    }
    if rest.starts_with('"') {
        return quoted(rest, '"');
    }
    if let Some(after) = rest.strip_prefix('\'') {
        // A lifetime has no closing quote right after its first character.
        let is_character = after.starts_with('\\') || after.chars().nth(1) == Some('\'');
        return if is_character { quoted(rest, '\'') } else { 0 };
    }
    let in_a_name = previous.is_ascii_alphanumeric() || previous == b'_';
    let raw = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r')).filter(|_| !in_a_name);
    if let Some(after) = raw {
        let hashes = after.len() - after.trim_start_matches('#').len();
        if after[hashes..].starts_with('"') {
            let open = rest.len() - after.len() + hashes + 1;
            let close = format!("\"{}", "#".repeat(hashes));
            return end_of(rest[open..].find(&close).map(|at| open + at + close.len()));
        }
    }
    0
}

fn quoted(rest: &str, quote: char) -> usize {
    let mut characters = rest.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        if character == '\\' {
            characters.next();
        } else if character == quote {
            return at + 1;
        }
    }
    rest.len()
}

fn nested_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    rest.len()
}

/// The block from the first `{` at or after `from`, braces included, unless a `;` outside brackets comes first.
pub(crate) fn block_after(code: &str, from: usize) -> Option<Range<usize>> {
    let (mut open, mut start, mut depth) = (0_i32, None, 0_i32);
    for (at, byte) in code.bytes().enumerate().skip(from) {
        match (byte, start) {
            (b'(' | b'[', None) => open += 1,
            (b')' | b']', None) => open -= 1,
            (b';', None) if open == 0 => return None,
            (b'{', None) if open == 0 => (start, depth) = (Some(at), 1),
            (b'{', Some(_)) => depth += 1,
            (b'}', Some(start)) => {
                depth -= 1;
                if depth == 0 {
                    return Some(start..at + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// Where `word` stands as a word of its own.
pub(crate) fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    let of_a_name =
        |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let bytes = code.as_bytes();
        !of_a_name(at.checked_sub(1).and_then(|before| bytes.get(before)))
            && !of_a_name(bytes.get(at + word.len()))
    })
}

#[test]
fn comments_strings_and_characters_are_blanked_and_lifetimes_are_not() {
    let source = "fn a<'a>() { '{'; '\\''; \"{\\\"\"; r#\"\"{\"#; b\"{\" } // {\n/* { /* { */ */ }";
    let code = code_only(source);
    assert_eq!(code.len(), source.len());
    assert_eq!(code.matches('{').count(), 1, "{code}");
    assert_eq!(code.matches('}').count(), 2, "{code}");
    assert!(code.contains("fn a<'a>()"), "{code}");
}

#[test]
fn a_block_ends_at_its_own_brace_and_a_declaration_has_none() {
    let code = "fn a(b: [u8; 2]) -> X { if c { d } e } fn f();";
    assert_eq!(&code[block_after(code, 0).expect("a has a body")], "{ if c { d } e }");
    assert!(block_after(code, code.find("fn f").expect("it is there")).is_none());
}
