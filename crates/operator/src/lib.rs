//! The cluster side of ironrail: controllers as synchronous steps over a cache, and the shells that drive them.
//!
//! `world`, `queue`, `controllers` and `steps` know no clock, client or runtime, so that the simulation drives the
//! very same code. `drive`, `watch`, `http`, `health` and `process` are the shells for a real API server.

pub mod conditions;
pub mod controllers;
pub mod drive;
pub mod election;
pub mod health;
pub mod http;
pub mod kinds;
pub mod metrics;
pub mod objects;
pub mod process;
pub mod queue;
pub mod settings;
pub mod steps;
pub mod watch;
pub mod world;
