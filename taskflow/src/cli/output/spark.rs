//! Charts of one line.

const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// A bar for each number, as high as its share of the greatest one; a space for none.
pub(in crate::cli) fn spark(numbers: &[u64]) -> String {
    let most = numbers.iter().copied().max().unwrap_or(0);
    let bar = |number: &u64| match number {
        0 => ' ',
        n => BARS[(u128::from(*n) * 8).div_ceil(u128::from(most)) as usize - 1],
    };
    numbers.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greatest_number_has_the_highest_bar_and_one_is_seen() {
        assert_eq!(spark(&[0, 1, 500, 1000]), " ▁▄█");
        assert_eq!(spark(&[0, 0]), "  ");
        assert_eq!(spark(&[u64::MAX, 1]), "█▁");
    }
}
