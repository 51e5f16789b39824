//! A folder of PostgreSQL's client programs in which `pg_dump` does something else for the rows.

use std::{
    fs,
    os::unix::{fs::PermissionsExt, fs::symlink},
    path::{Path, PathBuf},
};

use super::{World, client_bin_dir};

/// Makes the folder and tells the source `shop` of `world` to use it. `script` is shell; it runs in place of
/// `pg_dump --section=data` with `$real` as the real program and `"$@"` as its arguments. `$folder` is a place for files
/// by which test and script talk.
pub fn fake_pg_dump(world: &World, script: &str) -> PathBuf {
    let folder = world.path().join("clients");
    fs::create_dir_all(&folder).expect("make the folder of clients");
    let real = client_bin_dir();
    for program in ["psql", "pg_restore", "pg_dumpall"] {
        let _ = symlink(real.join(program), folder.join(program));
    }
    let text = format!(
        "#!/bin/bash\nreal='{}'\nfolder='{}'\ncase \" $* \" in *' --section=data '*)\n{script}\n;; esac\nexec \"$real\" \"$@\"\n",
        real.join("pg_dump").display(),
        folder.display(),
    );
    let fake = folder.join("pg_dump");
    fs::write(&fake, text).expect("write the fake pg_dump");
    fs::set_permissions(&fake, fs::Permissions::from_mode(0o755)).expect("make it executable");
    let file = world.path().join("config/sources.d/shop.toml");
    let mut source = fs::read_to_string(&file).expect("read the source's file");
    source.insert_str(0, &format!("client_bin_dir = \"{}\"\n", folder.display()));
    fs::write(&file, source).expect("write the source's file");
    folder
}

/// A script for [`fake_pg_dump`]: the dump stops in its middle until [`release`] is called.
pub const HELD_IN_THE_MIDDLE: &str = "set -o pipefail
\"$real\" \"$@\" | { head -c 500000; touch \"$folder/reached\"; while [ ! -e \"$folder/go\" ]; do sleep 0.02; done; cat; }
exit $?";

/// Waits until the held dump is in its middle.
pub fn wait_until_held(folder: &Path) {
    super::wait_until("the dump is held", || folder.join("reached").exists());
}

/// Lets the held dump go on.
pub fn release(folder: &Path) {
    fs::write(folder.join("go"), b"").expect("write the signal");
}
