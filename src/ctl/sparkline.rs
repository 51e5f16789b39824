//! A row of numbers as a line of little bars.

/// The most bars; of more numbers the last ones are shown.
const BARS: usize = 30;
const LEVELS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The numbers as bars: the lowest is the least of them, the highest the greatest. Equal numbers are all in the middle.
pub(crate) fn sparkline(numbers: &[u64]) -> String {
    let shown = &numbers[numbers.len().saturating_sub(BARS)..];
    let (Some(least), Some(most)) = (shown.iter().min(), shown.iter().max()) else { return String::new() };
    let range = u128::from(most - least);
    let steps = LEVELS.len() - 1;
    let bar = |number: &u64| match (u128::from(number - least) * steps as u128).checked_div(range) {
        None => LEVELS[steps / 2],
        Some(level) => LEVELS[usize::try_from(level).unwrap_or(steps).min(steps)],
    };
    shown.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bars_are_between_the_least_and_the_most() {
        assert_eq!(sparkline(&[]), "");
        assert_eq!(sparkline(&[5]), "▄");
        assert_eq!(sparkline(&[0, 7, 3, 0]), "▁█▄▁");
        assert_eq!(sparkline(&[u64::MAX, 0]), "█▁");
    }

    proptest! {
        #[test]
        fn a_line_is_never_longer_than_it_may_and_keeps_the_order(numbers in prop::collection::vec(any::<u64>(), 0..60)) {
            let line: Vec<char> = sparkline(&numbers).chars().collect();
            prop_assert_eq!(line.len(), numbers.len().min(BARS));
            let shown = &numbers[numbers.len() - line.len()..];
            for (a, b) in shown.iter().zip(&line) {
                for (c, d) in shown.iter().zip(&line) {
                    prop_assert!(a > c || b <= d);
                }
            }
        }
    }
}
