//! Teardown keeps going: what several steps of it answered, as one answer.

use cni::Error;

/// The first error, its details extended by the others.
pub fn first_with_others(
    results: impl IntoIterator<Item = Result<(), Error>>,
) -> Result<(), Error> {
    let mut errors = results.into_iter().filter_map(Result::err);
    let Some(mut first) = errors.next() else { return Ok(()) };
    for other in errors {
        let separator = if first.details.is_empty() { "" } else { "; " };
        first.details = format!("{}{separator}also: {other}", first.details);
    }
    Err(first)
}

#[cfg(test)]
mod tests {
    use cni::ErrorCode;

    use super::*;

    #[test]
    fn every_error_is_told() {
        let error = |msg: &str| Err(Error::new(ErrorCode::Io, msg));
        assert_eq!(first_with_others([Ok(()), Ok(())]), Ok(()));
        let all = first_with_others([Ok(()), error("one"), Ok(()), error("two")]).unwrap_err();
        assert_eq!(all.msg, "one");
        assert!(all.details.starts_with("also: ") && all.details.contains("two"), "{all:?}");
    }
}
