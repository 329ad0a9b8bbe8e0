//! Heddle's own configuration: types, validation, defaults, and the files that it ships.
