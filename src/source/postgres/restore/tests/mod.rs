//! Restores on a real server.

mod failures;
mod fixture;
mod rights;
mod swap;
mod tables;
mod vacant;
mod whole;
