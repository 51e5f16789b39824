//! The `MESSAGE_ID` of what happens, for `journalctl MESSAGE_ID=…` and the message catalog (`systemd/backupd.catalog`).
//!
//! Invariants: an id, once released, keeps its meaning; each has an entry in the catalog, which a test compares.

macro_rules! messages {
    ($( $(#[$doc:meta])* $name:ident = $id:literal; )*) => {
        $( $(#[$doc])* pub const $name: &str = $id; )*
        /// All of them, by name.
        pub const TABLE: &[(&str, &str)] = &[ $( (stringify!($name), $name), )* ];
    };
}

messages! {
    /// A job began to run.
    JOB_STARTED = "27560c6cb5d342f88aca109abe16b531";
    /// A job did what was asked.
    JOB_SUCCEEDED = "28ba96f5f95546f1bdf0a736923235e4";
    /// A job failed.
    JOB_FAILED = "9c3def784c0740758d04bdb675839076";
    /// A job was cancelled by somebody.
    JOB_CANCELED = "758121301d1d4edc85f1d5e6feeed382";
    /// A job was ended because the daemon stops, or was found unfinished after the daemon had died.
    JOB_INTERRUPTED = "bb4e8c8a4fe8486dbee6f8762fc6d59e";
    /// A part of a backup or of the repository is missing or is not what it was.
    DAMAGE_FOUND = "7d2d74fd22a4465d8a5200549d403835";
    /// A backup did not restore as it should when it was drilled.
    DRILL_FAILED = "4be0d1a7c0f84c6f9f0f5f3c1f2a9d61";
    /// A backup was made without something of its database.
    BACKUP_INCOMPLETE = "9d6692c0f1fc4156944962b6b9900f06";
    /// A backup holds suspiciously less than the one before.
    BACKUP_SUSPECT = "48da7d7688194f80a98942bbfe6c9ca4";
    /// Retention let a backup go; it can be brought back for a while.
    BACKUP_PRUNED = "6f1f2a53fcd34d0c8f6a7f5be4a9d012";
    /// A changed retention would delete much, and waits for somebody's word.
    PRUNE_HELD = "b3a0c6de70f1443f9a4a4e1f7c28d355";
    /// The repository is open.
    REPOSITORY_OPENED = "1e34755ab9324bf1bcc982b9f10c1819";
    /// The repository cannot be opened; it is tried again.
    REPOSITORY_UNAVAILABLE = "dd7a93bcdc34443e97a17d60a7da7036";
    /// Another daemon owns the repository or the state folder, which ends this one.
    REPOSITORY_LOCKED = "c3cbf47b40fb4072827e85d9d41271b7";
    /// The daemon could not start, or something ended it.
    DAEMON_FAILED = "d7e4aa50e76a4066a8644aa388b35e64";
    /// Something about the health of the backups changed: it came, got better or worse, or is over.
    HEALTH_CHANGED = "5e0f3a7b9d1c4c52a6a8f1be37c24d90";
    /// The configuration was read again.
    RELOADED = "84084d6e0d684e10b73f695cc8385667";
    /// The configuration could not be read again; the old one stays.
    RELOAD_FAILED = "77609d317b0643e5a00b95b567ca293e";
    /// A source is disabled by an error in its file.
    SOURCE_DISABLED = "aded46fb8abc43b58269d63b2770be4a";
    /// What an interrupted restore left was taken away.
    LEFTOVERS_REMOVED = "cfb9943e44dc4ed3be7de68337462027";
    /// What an interrupted restore left could not be taken away.
    LEFTOVERS_STAY = "02026c829b554546a1e7ceb1834c3ee9";
    /// The dead-man's switch found something wrong, or finds it still.
    WATCH_FOUND = "711504f518154a33855baf0453c754be";
    /// What the dead-man's switch had found is over.
    WATCH_OVER = "a2f9795b81c54173a53334b491db563d";
    /// Notices could not be told, and are given up.
    NOTICE_LOST = "5b0c2f6f4a3e4b7b9a1d6c8e7f2043a5";
    /// Somebody made a call that changes or reveals something, and was let.
    CALL_ACCEPTED = "7da17c3700b04656bbcd8f76652987c7";
    /// Somebody made a call that he may not make.
    CALL_REFUSED = "bdd3084f12a0458b84cb8863aae2c7bc";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_id_is_an_id_of_its_own() {
        for (position, (name, id)) in TABLE.iter().enumerate() {
            let hexadecimal = id.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
            assert!(id.len() == 32 && hexadecimal, "{name}: {id}");
            assert!(TABLE[position + 1..].iter().all(|(_, other)| other != id), "{name}: {id} is used twice");
        }
    }
}
