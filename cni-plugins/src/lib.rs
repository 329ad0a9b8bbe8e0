//! heddle-cni: every Heddle CNI plugin in one multi-call binary.
