//! Restoring a backup of a PostgreSQL database into a new database.
pub mod roles;
pub mod script;
pub mod statements;
pub mod toc;
