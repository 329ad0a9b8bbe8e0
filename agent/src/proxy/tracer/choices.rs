//! Random choices, all of them in turn.
//!
//! Whoever walks asks for a number as if it were random. A walk is repeated until every sequence of answers was given: with
//! each repetition the last choice that has another answer left gives it, and what comes after begins anew.

/// The choices of one walk.
#[derive(Debug, Default)]
pub struct Choices {
    made: Vec<Choice>,
    next: usize,
}

#[derive(Debug)]
struct Choice {
    picked: usize,
    weights: Vec<f64>,
}

impl Choices {
    /// One of `weights.len()` possibilities, which have these probabilities. One of probability 0 is never picked.
    pub fn pick(&mut self, weights: &[f64]) -> usize {
        if self.next == self.made.len() {
            let picked = possible(weights, 0).unwrap_or(0);
            self.made.push(Choice { picked, weights: weights.to_vec() });
        }
        self.next += 1;
        self.made[self.next - 1].picked
    }

    /// How probable the answers given so far are together.
    pub fn probability(&self) -> f64 {
        self.made[..self.next].iter().map(|choice| choice.weights[choice.picked]).product()
    }

    /// Prepares the next walk. `false`: all were made.
    pub fn advance(&mut self) -> bool {
        self.next = 0;
        while let Some(mut choice) = self.made.pop() {
            if let Some(picked) = possible(&choice.weights, choice.picked + 1) {
                choice.picked = picked;
                self.made.push(choice);
                return true;
            }
        }
        false
    }
}

fn possible(weights: &[f64], from: usize) -> Option<usize> {
    (from..weights.len()).find(|index| weights[*index] > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sequence_once() {
        let (mut choices, mut seen) = (Choices::default(), Vec::new());
        loop {
            let first = choices.pick(&[0.5, 0.0, 0.5]);
            let second = if first == 0 { 9 } else { choices.pick(&[0.25, 0.75]) };
            seen.push((first, second, choices.probability()));
            if !choices.advance() {
                break;
            }
        }
        assert_eq!(seen, [(0, 9, 0.5), (2, 0, 0.125), (2, 1, 0.375)]);
    }
}
