//! Certificates: the authority, what it signs, and the files they live in.
