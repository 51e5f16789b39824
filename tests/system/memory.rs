//! The memory of the daemon and its programs stays below `MemoryMax=`, however large the database is.

use crate::{
    common::wait_until,
    machine::{System, VERSION},
};

/// `MemoryMax=` for this test, and the size of a table of several times that.
const LIMIT: u64 = 96 << 20;
const ROWS: u64 = 600_000;

/// On one system: nothing of it is the system's.
#[test]
fn a_large_database_needs_no_more_than_the_limit() {
    let Some(system) = System::boot("trixie") else { return };
    system.install(VERSION);
    assert_eq!(system.property("backupd", "MemoryMax"), (4_u64 << 30).to_string());
    let limit = format!("[Service]\nMemoryMax={LIMIT}\nMemorySwapMax=0\n");
    system.write("/etc/systemd/system/backupd.service.d/memory.conf", &limit);
    system.sh("systemctl daemon-reload && systemctl restart backupd");
    assert_eq!(system.property("backupd", "MemoryMax"), LIMIT.to_string());
    system.with_source();
    let size: u64 = system
        .sh(&format!(
            "cd / && runuser -u postgres -- psql -qAtX shop -c 'ALTER ROLE backupd SUPERUSER' \
                -c \"CREATE TABLE large AS SELECT n, repeat(md5(n::text), 16) AS text FROM generate_series(1, {ROWS}) n\" \
                -c \"SELECT sum(length(text)) FROM large\""
        ))
        .parse()
        .expect("a size");
    assert!(size >= 3 * LIMIT);
    system.write("/run/watch.sh", WATCH);
    for job in ["create shop", "restore shop@latest --to copy --yes", "verify --level=data"] {
        system.sh(&format!("systemd-run --quiet --collect --unit=watch bash /run/watch.sh && backupctl {job}"));
        system.sh("systemctl stop watch");
        let peak: u64 = system.sh("cat /run/peak").parse().expect("bytes");
        println!("{job}: {} MiB of data, peak {} MiB, of {} MiB", size >> 20, peak >> 20, LIMIT >> 20);
        assert!(peak > 1 << 20 && peak < LIMIT, "{job}: {peak}");
    }
    let group = "/sys/fs/cgroup$(systemctl show --value -p ControlGroup backupd)";
    // Where the kernel counts for this system, as its own count; without the controller the sums above are what there is.
    let counted = system.sh(&format!("cat {group}/memory.peak {group}/memory.events 2>/dev/null || true"));
    println!("{counted}");
    assert!(counted.is_empty() || counted.contains("oom_kill 0"), "{counted}");
}

/// The highest sum of the memory (RSS, which counts what is shared more than once) of all processes of the daemon.
const WATCH: &str = r#"peak=0
group=/sys/fs/cgroup$(systemctl show --value -p ControlGroup backupd)
while :; do
    sum=0
    for pid in $(<"$group/cgroup.procs"); do
        read -r _ pages _ <"/proc/$pid/statm" || continue
        sum=$((sum + pages * 4096))
    done 2>/dev/null
    if ((sum > peak)); then
        peak=$sum
        echo "$peak" >/run/peak
    fi
    sleep 0.02
done
"#;
