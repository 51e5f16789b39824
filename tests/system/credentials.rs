//! Passwords that systemd hands over: from the folder of plain files, and from that of encrypted ones.

use crate::machine::{System, VERSION};

on_each_system!(a_password_is_a_file_in_a_folder);

fn a_password_is_a_file_in_a_folder(system: &System) {
    system.install(VERSION);
    system.with_source();
    system.sh("cd / && runuser -u postgres -- psql -qX -v ON_ERROR_STOP=1 shop \
        -c \"CREATE ROLE reader LOGIN BYPASSRLS PASSWORD 'se same'\" -c 'GRANT pg_read_all_data TO reader'");
    for name in ["plain", "hidden"] {
        let source = format!(
            "type = \"postgresql\"\nhost = \"127.0.0.1\"\nuser = \"reader\"\ndatabase = \"shop\"\n\
             password_credential = \"{name}.password\"\n"
        );
        system.write(&format!("/etc/backupd/sources.d/{name}.toml"), &source);
    }
    system.sh("systemctl reload backupd");
    let missing = system.try_sh("backupctl create plain");
    assert_eq!(missing.status.code(), Some(78), "{missing}");
    missing.says(&["plain.password", "/etc/backupd/credentials"]);

    // As README says; a running job would be waited for.
    let daemon = system.daemon();
    system.sh("printf 'se same\\n' >/etc/backupd/credentials/plain.password
        systemd-creds setup
        printf 'se same' | systemd-creds encrypt --name=encrypted_hidden.password - \
            /etc/backupd/credentials.encrypted/hidden.password
        systemctl kill --kill-whom=main --signal=SIGUSR1 backupd");
    system.wait_for(&format!(
        "systemctl --quiet is-active backupd && [ $(systemctl show --value -p MainPID backupd) != {daemon} ]"
    ));
    assert_eq!(system.property("backupd", "Result"), "success");
    system.sh("backupctl create plain && backupctl create hidden");
    assert!(!system.sh("cat /etc/backupd/credentials.encrypted/hidden.password").contains("se same"));
    // Neither the journal nor the daemon's environment nor a command line has it.
    assert!(!system.sh("journalctl --no-pager -o export -u backupd").contains("se same"));
}
