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
