//! `backupctl`: commands, tables, progress.
