//! Listeners, descriptor limits, socket options.
