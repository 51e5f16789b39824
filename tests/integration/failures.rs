//! What goes wrong gives a clear error and a named exit code, and leaves nothing behind: no temporary file, no half
//! backup in the list, no job that holds the source.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use backupd::model::error_code::ErrorCode;
use nix::{sys::signal::Signal, unistd::Uid};

use crate::common::{
    Daemon, HELD_IN_THE_MIDDLE, LIMIT, Server, World, assert_same_database, fake_pg_dump, postgres_source, release,
    run, wait_until, wait_until_held,
};

/// Nothing of a failed or cancelled backup is left.
#[track_caller]
fn nothing_is_left(world: &World, daemon: &Daemon, backups: usize) {
    assert_eq!(world.leftovers(), Vec::<PathBuf>::new());
    assert_eq!(daemon.list().len(), backups);
}

/// A failed create, and nothing left of it.
#[track_caller]
fn create_fails(world: &World, daemon: &Daemon, code: ErrorCode, words: &[&str]) {
    let failed = daemon.ctl(&["create", "shop"]);
    failed.fails_with(code);
    failed.says(words);
    nothing_is_left(world, daemon, 0);
}

#[test]
fn the_server_does_not_run() {
    let mut server = Server::start();
    server.sql("postgres", "CREATE DATABASE shop");
    let world = World::new(&server);
    let daemon = world.start();
    server.stop();
    create_fails(&world, &daemon, ErrorCode::DatabaseUnreachable, &["shop"]);
    server.restart();
    daemon.create("shop", &[]);
}

#[test]
fn the_password_is_wrong() {
    let server = Server::start();
    server.sql("postgres", "CREATE DATABASE shop; CREATE ROLE reader LOGIN SUPERUSER PASSWORD 'right-Väter'");
    server.set_hba("local all all scram-sha-256");
    let world = World::new(&server);
    let password = world.path().join("password");
    write_private(&password, "*:*:*:*:wrong-Söhne\n");
    let source = postgres_source(&server, "shop").replace("\"postgres\"", "\"reader\"");
    world.source("shop", &format!("{source}password_file = \"{}\"\n", password.display()));
    let daemon = world.start();
    create_fails(&world, &daemon, ErrorCode::AuthenticationFailed, &["reader"]);
    write_private(&password, "*:*:*:*:right-Väter\n");
    daemon.create("shop", &[]);
    for secret in ["wrong-Söhne", "right-Väter"] {
        assert!(!world.log().contains(secret), "a password in the log");
    }
}

fn write_private(file: &Path, text: &str) {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = fs::OpenOptions::new();
    let mut open = options.write(true).create(true).truncate(true).mode(0o600).open(file).expect("open");
    std::io::Write::write_all(&mut open, text.as_bytes()).expect("write");
}

#[test]
fn one_table_may_not_be_read() {
    let server = Server::start();
    server.sql("postgres", "CREATE DATABASE shop; CREATE ROLE reader LOGIN");
    server.sql("shop", "CREATE TABLE open (a int); CREATE TABLE closed (a int); GRANT SELECT ON open TO reader");
    let world = World::new(&server);
    world.source("shop", &postgres_source(&server, "shop").replace("\"postgres\"", "\"reader\""));
    let daemon = world.start();
    create_fails(&world, &daemon, ErrorCode::DatabasePermission, &["closed", "GRANT"]);
    server.sql("shop", "GRANT SELECT ON closed TO reader");
    daemon.create("shop", &[]);
}

#[test]
fn the_database_is_not_there() {
    let server = Server::start();
    let world = World::new(&server);
    let daemon = world.start();
    create_fails(&world, &daemon, ErrorCode::NoSuchDatabase, &["shop"]);
    daemon.ctl(&["create", "chop"]).fails_with(ErrorCode::NoSuchSource);
    daemon.ctl(&["show", "01234567"]).fails_with(ErrorCode::NoSuchBackup);
}

#[test]
fn the_server_dies_in_the_middle_of_a_dump() {
    let mut server = Server::with_sample();
    let world = World::new(&server);
    let folder = fake_pg_dump(&world, HELD_IN_THE_MIDDLE);
    let daemon = world.start();
    let create = daemon.ctl_in_background(&["create", "shop"]);
    wait_until_held(&folder);
    server.stop();
    release(&folder);
    let failed = create.join().expect("create");
    assert!(!failed.status.success() && !failed.stderr.trim().is_empty(), "{failed}");
    nothing_is_left(&world, &daemon, 0);
    server.restart();
    daemon.create("shop", &[]);
}

#[test]
fn the_dump_program_is_killed() {
    let server = Server::with_sample();
    let world = World::new(&server);
    fake_pg_dump(&world, "\"$real\" \"$@\" | head -c 500000; kill -KILL $$");
    let daemon = world.start();
    create_fails(&world, &daemon, ErrorCode::DumpFailed, &["pg_dump"]);
}

#[test]
fn the_dump_program_fails_with_a_message() {
    let server = Server::with_sample();
    let world = World::new(&server);
    fake_pg_dump(&world, "echo 'pg_dump: error: the dog ate it' >&2; exit 1");
    let daemon = world.start();
    create_fails(&world, &daemon, ErrorCode::DumpFailed, &["the dog ate it"]);
}

#[test]
fn a_dump_that_is_cut_short_although_it_exits_with_0() {
    let server = Server::with_sample();
    let world = World::new(&server);
    let daemon = {
        fake_pg_dump(
            &world,
            "[ ! -e \"$folder/lines\" ] || { \"$real\" \"$@\" | head -n -6; exit 0; }\n\"$real\" \"$@\" | head -c 500000; exit 0",
        );
        world.start()
    };
    create_fails(&world, &daemon, ErrorCode::DumpIncomplete, &[]);
    // All rows are there, and only the completion mark is missing.
    fs::write(world.path().join("clients/lines"), b"").expect("write");
    create_fails(&world, &daemon, ErrorCode::DumpIncomplete, &[]);
}

#[test]
fn a_million_lines_on_standard_error() {
    let server = Server::with_sample();
    let world = World::new(&server);
    fake_pg_dump(&world, "yes 'pg_dump: warning: once more' | head -n 1000000 >&2");
    let daemon = world.start();
    daemon.create("shop", &[]);
    assert!(peak_memory(daemon.pid()) < 128 << 20);
    assert!(world.log().len() < 4 << 20, "the journal is flooded: {} bytes", world.log().len());
    nothing_is_left(&world, &daemon, 1);
}

/// The most memory that a process ever had, in bytes, the parts of its program that it ran included.
fn peak_memory(pid: i32) -> u64 {
    memory(pid, "VmHWM:")
}

fn memory(pid: i32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("read /proc");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a field of /proc");
    line.trim().trim_end_matches(" kB").trim().parse::<u64>().expect("a number") * 1024
}

#[test]
fn a_second_create_is_told_of_the_first() {
    let server = Server::with_sample();
    let world = World::new(&server);
    let folder = fake_pg_dump(&world, HELD_IN_THE_MIDDLE);
    let daemon = world.start();
    let first = daemon.ctl_in_background(&["create", "shop"]);
    wait_until_held(&folder);
    let second = daemon.ctl(&["create", "shop"]);
    second.fails_with(ErrorCode::SourceBusy);
    second.says(&[&daemon.running_job()]);
    release(&folder);
    first.join().expect("create").ok();
    nothing_is_left(&world, &daemon, 1);
}

#[test]
fn a_second_daemon_may_not_write_to_the_repository() {
    let server = Server::start();
    server.sql("postgres", "CREATE DATABASE shop");
    let world = World::new(&server);
    let daemon = world.start();
    daemon.create("shop", &[]);
    let other = World::new(&server);
    other.configure(&format!("[repository]\npath = \"{}\"\n", world.repository().display()));
    let refused = run(&mut other.backupd());
    refused.fails_with(ErrorCode::RepositoryLocked);
    refused.says(&[&daemon.pid().to_string()]);
    assert_eq!(world.offline(&["list", "--json=short"]).ok().json().as_array().map(Vec::len), Some(1));
}

#[test]
fn a_cancelled_dump_leaves_nothing() {
    let server = Server::with_sample();
    let world = World::new(&server);
    let folder = fake_pg_dump(&world, HELD_IN_THE_MIDDLE);
    let daemon = world.start();
    let create = daemon.ctl_in_background(&["create", "shop"]);
    wait_until_held(&folder);
    daemon.ctl(&["cancel", &daemon.running_job()]).ok();
    create.join().expect("create").fails_with(ErrorCode::Canceled);
    nothing_is_left(&world, &daemon, 0);
    wait_until("the dump's connections are gone", || connections(&server) == "0");
}

#[test]
fn a_create_that_waits_for_a_lock_can_be_cancelled() {
    let server = Server::with_sample();
    let world = World::new(&server);
    let daemon = world.start();
    let mut holder = lock_holder(&server);
    let create = daemon.ctl_in_background(&["create", "shop"]);
    wait_until("the backup waits for the lock", || {
        server.sql("postgres", "SELECT count(*) FROM pg_locks WHERE NOT granted") != "0"
    });
    daemon.ctl(&["cancel", &daemon.running_job()]).ok();
    create.join().expect("create").fails_with(ErrorCode::Canceled);
    nothing_is_left(&world, &daemon, 0);
    let _ = holder.kill();
    let _ = holder.wait();
}

#[test]
fn a_table_that_stays_locked() {
    let server = Server::with_sample();
    let world = World::new(&server);
    world.source("shop", &format!("{}lock_timeout = \"1s\"\n", postgres_source(&server, "shop")));
    let daemon = world.start();
    let mut holder = lock_holder(&server);
    create_fails(&world, &daemon, ErrorCode::LockTimeout, &["item"]);
    let _ = holder.kill();
    let _ = holder.wait();
}

/// A session that holds ACCESS EXCLUSIVE on `shop.item` until it is killed.
fn lock_holder(server: &Server) -> std::process::Child {
    let mut command = server.psql_command("shop");
    command.args(["-c", "BEGIN", "-c", "LOCK shop.item", "-c", "SELECT pg_sleep(600)"]);
    let child = command.stdin(std::process::Stdio::null()).stdout(std::process::Stdio::null()).spawn().expect("psql");
    wait_until("the table is locked", || {
        let sql = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND granted AND relation = 'shop.item'::regclass";
        server.sql("shop", sql) != "0"
    });
    child
}

/// How many sessions are in the database `shop`, apart from the one that asks.
fn connections(server: &Server) -> String {
    server.sql("postgres", "SELECT count(*) FROM pg_stat_activity WHERE datname = 'shop'")
}

#[test]
fn a_client_that_vanishes_does_not_end_its_job() {
    let server = Server::with_sample();
    let world = World::new(&server);
    let folder = fake_pg_dump(&world, HELD_IN_THE_MIDDLE);
    let daemon = world.start();
    let mut client = daemon.ctl_command().args(["create", "shop"]).spawn().expect("backupctl");
    wait_until_held(&folder);
    client.kill().expect("kill the client");
    client.wait().expect("wait for the client");
    release(&folder);
    wait_until("the backup is there", || daemon.list().len() == 1);
    daemon.ctl(&["verify", "shop@latest", "--level=data"]).ok();
}

#[test]
fn a_daemon_that_is_told_to_stop_stops_its_job() {
    let server = Server::with_sample();
    let world = World::new(&server);
    let folder = fake_pg_dump(&world, HELD_IN_THE_MIDDLE);
    let daemon = world.start();
    let create = daemon.ctl_in_background(&["create", "shop"]);
    wait_until_held(&folder);
    assert!(daemon.stop().success());
    assert!(!create.join().expect("create").status.success());
    assert_eq!(world.leftovers(), Vec::<PathBuf>::new());
    wait_until("the dump's connections are gone", || connections(&server) == "0");
    let daemon = world.start();
    release(&folder);
    assert_eq!(daemon.list().len(), 0);
    daemon.create("shop", &[]);
}

#[test]
fn the_time_and_the_size_of_a_backup_have_limits() {
    let server = Server::with_sample();
    let world = World::new(&server);
    let plain = postgres_source(&server, "shop");
    world.source("shop", &format!("{plain}max_size = \"100KiB\"\n"));
    let daemon = world.start();
    create_fails(&world, &daemon, ErrorCode::SizeLimit, &["max_size"]);
    drop(daemon);
    world.source("shop", &format!("{plain}timeout = \"2s\"\n"));
    fake_pg_dump(&world, HELD_IN_THE_MIDDLE);
    let daemon = world.start();
    create_fails(&world, &daemon, ErrorCode::TimedOut, &["timeout"]);
}

#[test]
fn the_source_is_dropped_while_it_is_dumped() {
    let server = Server::with_sample();
    let world = World::new(&server);
    let folder = fake_pg_dump(&world, HELD_IN_THE_MIDDLE);
    let daemon = world.start();
    let create = daemon.ctl_in_background(&["create", "shop"]);
    wait_until_held(&folder);
    server.sql("postgres", "DROP DATABASE shop WITH (FORCE)");
    release(&folder);
    assert!(!create.join().expect("create").status.success());
    nothing_is_left(&world, &daemon, 0);
}

/// A restore of `shop` to `copy` fails, and leaves nothing on the server and in the daemon's folders.
#[track_caller]
fn restore_fails(server: &Server, world: &World, daemon: &Daemon, code: ErrorCode, words: &[&str]) {
    let failed = daemon.ctl(&["restore", "shop@latest", "--to", "copy", "--yes"]);
    failed.fails_with(code);
    failed.says(words);
    let names = server.sql("postgres", "SELECT datname FROM pg_database");
    assert!(!names.contains("__restore_") && !names.contains("copy"), "left on the server: {names}");
    assert_eq!(fs::read_dir(world.path().join("state/restores")).map_or(0, Iterator::count), 0, "journal entries");
    assert_eq!(world.leftovers(), Vec::<PathBuf>::new());
}

/// What a restore can only meet at the end: tables that hold in the database `shop` alone.
const ONLY_IN_SHOP: &str = "CREATE FUNCTION only_in_shop(a int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN
    IF current_database() <> 'shop' THEN RAISE EXCEPTION 'the dog ate row %', a; END IF; RETURN a; END $$;";

#[test]
fn a_restore_that_fails_drops_its_database() {
    let server = Server::with_sample();
    let world = World::new(&server);
    let daemon = world.start();
    server.sql("shop", ONLY_IN_SHOP);
    server.sql("shop", "CREATE TABLE zoo (a int CHECK (only_in_shop(a) > 0)); INSERT INTO zoo VALUES (5)");
    daemon.create("shop", &[]);
    restore_fails(&server, &world, &daemon, ErrorCode::RestoreFailed, &["restoring the rows", "the dog ate row 5"]);

    server.sql("shop", "DROP TABLE zoo; CREATE TABLE zoo (a int); INSERT INTO zoo VALUES (6)");
    server.sql("shop", "CREATE INDEX ON zoo (only_in_shop(a))");
    daemon.create("shop", &[]);
    let words = ["restoring indexes, constraints and triggers", "the dog ate row 6"];
    restore_fails(&server, &world, &daemon, ErrorCode::RestoreFailed, &words);

    server.sql("shop", "DROP TABLE zoo");
    daemon.create("shop", &[]);
    daemon.ctl(&["restore", "shop@latest", "--to", "copy", "--yes"]).ok();
    assert_same_database((&server, "shop"), (&server, "copy"));
}

#[test]
fn damage_in_the_middle_of_the_rows_ends_a_restore() {
    let server = Server::start();
    server.load_sample("shop", 3);
    let world = World::new(&server);
    let daemon = world.start();
    daemon.create("shop", &[]);
    for pack in packs(&world) {
        flip(&pack, 0.6);
    }
    restore_fails(&server, &world, &daemon, ErrorCode::BackupDamaged, &["restoring the rows"]);
}

#[test]
fn damage_in_the_schema_is_found_before_a_database_is_made() {
    let server = Server::with_sample();
    let world = World::new(&server);
    let daemon = world.start();
    daemon.create("shop", &[]);
    packs(&world).iter().for_each(|pack| flip(pack, 0.0));
    restore_fails(&server, &world, &daemon, ErrorCode::BackupDamaged, &[]);
}

/// Changes one bit of a file at this part of its length, and in every tenth byte after it up to a tenth of the length.
fn flip(file: &Path, place: f64) {
    let mut bytes = fs::read(file).expect("read");
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let start = (bytes.len() as f64 * place) as usize;
    let end = start + bytes.len() / 10;
    bytes[start..end].iter_mut().step_by(10).for_each(|byte| *byte ^= 0x40);
    run(Command::new("chmod").arg("u+w").arg(file)).ok();
    fs::write(file, bytes).expect("write");
}

fn packs(world: &World) -> Vec<PathBuf> {
    let found = run(Command::new("find").arg(world.repository().join("packs")).args(["-type", "f"])).ok();
    found.text().lines().map(PathBuf::from).collect()
}

#[test]
fn the_repository_vanishes() {
    let server = Server::with_sample();
    let world = World::new(&server);
    let daemon = world.start();
    daemon.create("shop", &[]);
    let away = world.path().join("away");
    fs::rename(world.repository(), &away).expect("move the repository");
    let failed = daemon.ctl(&["create", "shop"]);
    failed.fails_with(ErrorCode::RepositoryUnavailable);
    assert!(!world.repository().exists(), "the daemon made a new repository in the place of the lost one");
    fs::rename(&away, world.repository()).expect("move the repository back");
    wait_until("the repository is open again", || daemon.ctl(&["create", "shop"]).status.success());
    nothing_is_left(&world, &daemon, 2);
}

#[test]
fn the_repository_is_read_only() {
    if !Uid::effective().is_root() {
        return check_read_only(|folder| drop(run(Command::new("chmod").args(["-R", "a-w"]).arg(folder)).ok()));
    }
    check_read_only(|folder| {
        run(Command::new("mount").arg("--bind").arg(folder).arg(folder)).ok();
        run(Command::new("mount").args(["-o", "remount,bind,ro"]).arg(folder)).ok();
    });
}

fn check_read_only(make_read_only: impl Fn(&Path)) {
    let server = Server::with_sample();
    let world = World::new(&server);
    let first = world.start();
    first.create("shop", &[]);
    drop(first);
    let _mounted = Mounted(world.repository());
    make_read_only(&world.repository());
    let daemon = world.start();
    let failed = daemon.ctl(&["create", "shop"]);
    assert!(!failed.status.success() && !failed.stderr.trim().is_empty(), "{failed}");
    // What reads goes on.
    assert_eq!(world.offline(&["list", "--json=short"]).ok().json().as_array().map(Vec::len), Some(1));
    world.offline(&["verify", "shop@latest", "--level=data"]).ok();
}

#[test]
fn the_repository_is_full() {
    if !Uid::effective().is_root() {
        eprintln!("skipped: a full file system needs a mount, which needs root");
        return;
    }
    let server = Server::with_sample();
    let world = World::new(&server);
    let mount = world.path().join("small");
    fs::create_dir(&mount).expect("make the mount point");
    run(Command::new("mount").args(["-t", "tmpfs", "-o", "size=20m", "tmpfs"]).arg(&mount)).ok();
    let _mounted = Mounted(mount.clone());
    world.configure(&format!("[repository]\npath = \"{}\"\nreserve = \"0\"\n", mount.join("repository").display()));
    let folder = fake_pg_dump(&world, HELD_IN_THE_MIDDLE);
    let daemon = world.start();
    // Somebody else fills the file system after the early checks found room.
    let create = daemon.ctl_in_background(&["create", "shop"]);
    wait_until_held(&folder);
    let filling = mount.join("filling");
    let _ = run(Command::new("dd").args(["if=/dev/zero", "bs=64k"]).arg(format!("of={}", filling.display())));
    release(&folder);
    let failed = create.join().expect("create");
    failed.fails_with(ErrorCode::NoSpace);
    failed.says(&["small"]);
    // Now the early checks see it.
    let failed = daemon.ctl(&["create", "shop"]);
    failed.fails_with(ErrorCode::NoSpace);
    failed.says(&["small"]);
    nothing_is_left(&world, &daemon, 0);
    fs::remove_file(filling).expect("make room");
    daemon.create("shop", &[]);
}

/// Unmounts on drop.
struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).stderr(std::process::Stdio::null()).status();
        let _ = Command::new("chmod").args(["-R", "u+w"]).arg(&self.0).stderr(std::process::Stdio::null()).status();
    }
}

#[test]
fn a_daemon_without_a_server_or_sources_idles_and_ends_at_once() {
    let server = Server::start();
    let world = World::new(&server);
    let daemon = world.start();
    // Its own, which the program's size, several times as large where it is not optimised, has no part in.
    let idle = memory(daemon.pid(), "RssAnon:");
    assert!(idle < 6 << 20, "idle memory: {idle} bytes");
    daemon.signal(Signal::SIGHUP);
    daemon.ctl(&["status"]).ok();
    let began = std::time::Instant::now();
    assert!(daemon.stop().success());
    assert!(began.elapsed() < Duration::from_secs(5).min(LIMIT));
}
