//! PostgreSQL databases, servers 13 to 18.
//!
//! - `connection`, `tls`, `password`, `environment`: one [`crate::config::ConnectionSpec`] for the Rust client and for
//!   libpq's programs alike;
//! - `client_programs`, `child`: finding and running pg_dump and its kin;
//! - `quote`: SQL text from hostile names.

pub mod child;
pub mod client_programs;
pub mod connection;
pub mod copy_scan;
pub mod environment;
pub mod password;
pub mod quote;
mod tls;

#[cfg(test)]
pub(crate) mod test_server;
