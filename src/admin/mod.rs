//! The operator's view: the control socket, /metrics, /health.
