//! The D-Bus interface `org.backupd1`: objects, wire types, who may call what.
