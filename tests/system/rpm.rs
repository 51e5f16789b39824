//! The RPM package: as a file, and with rpm itself on a booted system and in a root where no systemd is. Not on Fedora: there are
//! only Debian's systems here.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    common::{Finished, Scratch, project_file, run},
    machine::{OLDER, System, VERSION, package, programs},
    package::tools,
};

const NEEDED: &[&str] = &["rpmbuild", "rpm", "strip", "make"];

on_each_system!(installs_upgrades_and_erases, makes_its_user_where_no_systemd_is);

/// Builds the package of the programs under test into a folder.
fn build_rpm(version: &str, folder: &Path) -> PathBuf {
    let mut command = Command::new(project_file("packaging/build-rpm"));
    command.args(["--fast", "--version", version]).arg("--programs").arg(programs()).arg("--output").arg(folder);
    PathBuf::from(run(&mut command).ok().text().trim_end())
}

fn query(file: &Path, options: &[&str]) -> String {
    run(Command::new("rpm").arg("-qp").args(options).arg(file)).ok().text().to_owned()
}

#[test]
fn two_packages_of_the_same_programs_are_the_same() {
    if !tools(NEEDED) {
        return;
    }
    let (first, second) = (Scratch::new(), Scratch::new());
    let build = |folder: &Scratch| fs::read(build_rpm(VERSION, folder.path())).expect("a package");
    assert!(build(&first) == build(&second), "the packages differ");
}

#[test]
fn rpmlint_finds_nothing_that_is_not_explained() {
    if !tools(NEEDED) || !tools(&["rpmlint"]) {
        return;
    }
    let folder = Scratch::new();
    let mut rpmlint = Command::new("rpmlint");
    // Every filter stands beside its reason.
    rpmlint.arg("--rpmlintrc").arg(project_file("packaging/rpm/rpmlintrc"));
    let finished = run(rpmlint.arg(build_rpm(VERSION, folder.path())).env("HOME", folder.path())).ok();
    assert!(finished.text().contains(" 0 errors, 0 warnings"), "{finished}");
}

/// Files, not folders, which a package of Debian's lists up to the root.
fn listing(text: &str, path: usize, owner: impl Fn(&[&str]) -> String) -> BTreeMap<String, String> {
    let rows = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let named = rows.map(|row| (row[path].trim_start_matches('.').trim_end_matches('/').to_owned(), row));
    named.map(|(name, row)| (name, format!("{} {}", row[0], owner(&row)))).collect()
}

#[test]
fn it_has_the_files_modes_and_owners_of_the_debian_package() {
    if !tools(NEEDED) || !tools(&["dpkg-deb"]) {
        return;
    }
    let folder = Scratch::new();
    let text = query(&build_rpm(VERSION, folder.path()), &["-lv"]);
    let mut of_rpm = listing(&text, 8, |row| format!("{}/{}", row[2], row[3]));
    let text = run(Command::new("dpkg-deb").arg("-c").arg(package(VERSION))).ok().text().to_owned();
    let mut of_deb = listing(&text, 5, |row| row[1].to_owned());
    // What each distribution has in a place or a form of its own.
    for (deb, rpm) in [
        ("zsh/vendor-completions/_backupctl", "zsh/site-functions/_backupctl"),
        ("doc/backupd/changelog.gz", "doc/backupd/CHANGELOG.md"),
        ("doc/backupd/copyright", "licenses/backupd/LICENSE-MIT"),
    ] {
        let (deb, rpm) = (of_deb.remove(&format!("/usr/share/{deb}")), of_rpm.remove(&format!("/usr/share/{rpm}")));
        assert!(deb.is_some() && deb == rpm, "{deb:?} {rpm:?}");
    }
    of_deb.retain(|name, _| {
        !name.contains("needrestart") && !name.contains("lintian") && !name.ends_with("changelog.Debian.gz")
    });
    of_rpm.retain(|name, _| !name.starts_with("/usr/share/licenses"));
    // A folder that is other packages', too, only Debian's lists.
    of_deb.retain(|name, row| !row.starts_with('d') || of_rpm.contains_key(name));
    assert_eq!(of_rpm, of_deb);
    assert_eq!(of_rpm["/etc/backupd/credentials"], "drwx------ root/root");
    let configuration = query(&build_rpm(VERSION, folder.path()), &["--qf", "[%{FILENAMES} %{FILEFLAGS:fflags}\n]"]);
    let kept: Vec<&str> = configuration.lines().filter(|line| line.contains(" c")).collect();
    assert_eq!(kept, ["/etc/backupd/backupd.toml cn"]);
}

/// Hands a package of this version in; gives its path there.
fn hand_in(system: &System, version: &str) -> String {
    let folder = Scratch::new();
    system.hand_in(&build_rpm(version, folder.path()))
}

/// Runs rpm, whose database is empty there: nothing that the package needs is known to it.
#[track_caller]
fn rpm(system: &System, arguments: &str) -> Finished {
    // Installed libraries are dpkg's business there; that they are enough, the daemon shows.
    let finished = system.try_sh(&format!("rpm --nodeps {arguments} 2>&1")).ok();
    for word in ["warning: %", "scriptlet failed", "error:"] {
        assert!(!finished.text().contains(word), "{finished}");
    }
    finished
}

fn installs_upgrades_and_erases(system: &System) {
    if !tools(NEEDED) {
        return;
    }
    // Fedora's presets enable nothing that they do not name.
    system.write("/etc/systemd/system-preset/99-default.preset", "disable *\n");
    rpm(system, &format!("-i {}", hand_in(system, OLDER)));
    let enabled = || system.sh("systemctl is-active backupd || true; systemctl is-enabled backupd || true");
    assert_eq!(enabled(), "inactive\ndisabled");
    assert_eq!(system.sh("getent passwd backupd | cut -d: -f6"), "/var/lib/backupd");
    system.sh("rpm -V --nodeps backupd"); // Modes and owners as packed.
    let catalog = "journalctl --list-catalog | grep -c 'backupd:' || true";
    assert_ne!(system.sh(catalog), "0");

    // Once enabled, the bus knows its policy and service: the first call starts the daemon.
    system.sh("systemctl enable --quiet backupd && backupctl status");
    system.with_source();
    system.sh("backupctl create shop");
    let (daemon, kept) = (system.daemon(), system.backups());
    system.begin_held_backup();
    rpm(system, &format!("-U {}", hand_in(system, VERSION)));
    assert_eq!(system.daemon(), daemon, "it was restarted under a job");
    let status = system.property("backupd", "StatusText");
    assert!(status.ends_with("; restarts when no job runs"), "{status}");
    assert_eq!(enabled(), "active\nenabled");
    system.let_backups_go_on();
    system.wait_for(&format!(
        "systemctl --quiet is-active backupd && [ $(systemctl show --value -p MainPID backupd) != {daemon} ]"
    ));
    assert_eq!((system.last_result().as_str(), system.backups().len()), ("done", kept.len() + 1));
    assert_eq!(system.property("backupd", "Result"), "success");

    system.sh("echo '# changed' >>/etc/backupd/backupd.toml; systemctl enable --quiet --now backupd-verify.timer");
    let again = rpm(system, &format!("-U --replacepkgs {}", hand_in(system, VERSION)));
    system.sh("tail -n 1 /etc/backupd/backupd.toml | grep changed");
    assert!(!again.text().contains("stay"), "{again}");
    let erased = rpm(system, "-e backupd");
    assert!(erased.text().contains("The backups stay in /var/lib/backupd/repository"), "{erased}");
    assert_eq!(system.sh("ps -C backupd -o pid= || true; systemctl --failed --no-legend"), "");
    let ours = r"find /etc/systemd/system /usr \( -name 'backupd*' -o -name '*backupctl*' -o -name 'org.backupd1*' \)";
    assert_eq!(system.sh(ours), "");
    assert_eq!(system.sh(catalog), "0");
    assert_eq!(system.sh("cd /etc/backupd && find . -type f | sort"), "./backupd.toml.rpmsave\n./sources.d/shop.toml");
    assert_eq!(system.sh("sh /var/lib/backupd/repository/restore.sh list | grep -c shop"), "2");
}

/// An image that is being built, for which a program of systemd's may be missing and none runs.
fn makes_its_user_where_no_systemd_is(system: &System) {
    if !tools(NEEDED) {
        return;
    }
    let file = hand_in(system, VERSION);
    // A root of its own, above the files of this one; what is mounted here is not there.
    system.sh("mkdir /run/layer && mount -t tmpfs none /run/layer && cd /run/layer && mkdir upper work root
        mount -t overlay none -o lowerdir=/,upperdir=/run/layer/upper,workdir=/run/layer/work root
        rm root/usr/bin/systemctl root/usr/bin/systemd-sysusers root/usr/bin/journalctl root/usr/bin/busctl
        ! chroot root getent passwd backupd");
    rpm(system, &format!("--root /run/layer/root -i {file}"));
    let user = system.sh("chroot /run/layer/root getent passwd backupd");
    assert!(system.sh("chroot /run/layer/root getent passwd backupd-drill").contains("Drills"));
    assert!(user.contains(":Database Backup Daemon:/var/lib/backupd:/") && user.ends_with("/nologin"), "{user}");
    let number: u32 = user.split(':').nth(2).expect("a number").parse().expect("a number");
    assert!((1..1000).contains(&number), "{user}");
    rpm(system, "--root /run/layer/root -e backupd");

    // Where nobody can make it, that is said, and the package is installed all the same.
    system.sh("cd /run/layer/root && chroot . userdel backupd && rm usr/sbin/useradd");
    let said = rpm(system, &format!("--root /run/layer/root -i {file}"));
    assert!(said.text().contains("the user backupd could not be created"), "{said}");
    system.sh("chroot /run/layer/root /usr/bin/backupctl --version");
}
