//! Telling an error with its causes.

use std::error::Error;

/// The error and what caused it on one line, outermost first: `cannot open X: Permission denied`. For the edge of a
/// program, where an error is told once.
pub fn one_line(error: &(dyn Error + 'static)) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NetnsError;

    #[test]
    fn causes_follow() {
        let source = std::io::Error::other("no luck");
        let error = NetnsError::System { operation: "open", path: "/x".into(), source };
        assert_eq!(one_line(&error), "cannot open /x: no luck");
    }
}
