//! PostgreSQL databases, servers 13 to 18.
//!
//! - `dump`: taking the set of one database; [`dump::preflight`] is what can be checked before;
//! - `snapshot`: locks first, snapshot after; `checks`, `selection`: what may and what shall be read;
//! - `catalog`, `facts`, `databases`, `database_sql`: what the catalogs say;
//! - `restore`: making a database of a set;
//! - `drill`: the same in a server that exists only for that, and looking at it;
//! - `copy_scan`: reading a dump as it streams past;
//! - `connection`, `tls`, `password`, `environment`: one [`crate::config::ConnectionSpec`] for the Rust client and for
//!   libpq's programs alike;
//! - `client_programs`, `child`, `batched_pipe`: finding and running pg_dump and its kin, and reading what they write;
//! - `examine`, `grants`: before the first backup: what is there, and the SQL for the roles;
//! - `quote`: SQL text from hostile names.

pub mod batched_pipe;
pub mod catalog;
pub mod checks;
pub mod child;
pub mod client_programs;
pub mod connection;
pub mod copy_scan;
pub mod database_sql;
pub mod databases;
pub mod drill;
pub mod dump;
pub mod environment;
pub mod examine;
pub mod facts;
pub mod grants;
pub mod password;
pub mod quote;
pub mod restore;
pub mod selection;
pub mod snapshot;
mod tls;

#[cfg(test)]
pub(crate) mod test_server;
