//! Restores on a real server.

mod fixture;
mod whole;
