//! Finds the word that a misspelt word most likely means.

/// The candidate most similar to `word`, if one is similar enough to be a typo of it.
pub(crate) fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    candidates
        .into_iter()
        .map(|candidate| (edits(word, candidate), candidate))
        .filter(|(edits, candidate)| *edits <= 1 + candidate.chars().count().min(word.chars().count()) / 4)
        .min()
        .map(|(_, candidate)| candidate.to_owned())
}

/// The number of insertions, deletions, replacements and swaps of neighbours between two words (restricted Damerau distance).
fn edits(from: &str, to: &str) -> usize {
    let (from, to): (Vec<char>, Vec<char>) = (from.chars().collect(), to.chars().collect());
    let mut rows = vec![(0..=to.len()).collect::<Vec<_>>()];
    for i in 1..=from.len() {
        let mut row = vec![i; to.len() + 1];
        for j in 1..=to.len() {
            let replace = rows[i - 1][j - 1] + usize::from(from[i - 1] != to[j - 1]);
            row[j] = replace.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && from[i - 1] == to[j - 2] && from[i - 2] == to[j - 1] {
                row[j] = row[j].min(rows[i - 2][j - 2] + 1);
            }
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_its_word_and_an_unrelated_word_finds_none() {
        assert_eq!(closest("emial", ["email", "reports"]).as_deref(), Some("email"));
        assert_eq!(closest("report", ["email", "reports"]).as_deref(), Some("reports"));
        assert_eq!(closest("payments", ["email", "reports"]), None);
    }
}
