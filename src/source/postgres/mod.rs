//! PostgreSQL databases, servers 13 to 18.
