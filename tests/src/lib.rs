//! Tests of every layer together: real kernel, containerd, packets.
