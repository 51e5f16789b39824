//! Where backups live: packs, manifests, sessions, records. The format is `docs/repository-format.md`.
