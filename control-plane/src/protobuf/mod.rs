//! Bodies in Kubernetes' protobuf to JSON.
