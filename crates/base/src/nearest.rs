//! "Did you mean …": the known name nearest to one that is not known.

/// The name among `known` that `wrong` was probably meant to be, if any is near.
pub fn nearest<'a>(wrong: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wrong = wrong.to_ascii_lowercase();
    known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(&wrong, name), name))
        .min_by_key(|(distance, _)| *distance)
        .filter(|(distance, name)| *distance <= name.len().max(wrong.len()).div_ceil(2))
        .map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_finds_its_name_and_nonsense_finds_none() {
        let known = ["listen", "relay-from", "smarthost"];
        assert_eq!(nearest("smart_host", known), Some("smarthost"));
        assert_eq!(nearest("Listen", known), Some("listen"));
        assert_eq!(nearest("zzzzzzzzzz", known), None);
    }
}
