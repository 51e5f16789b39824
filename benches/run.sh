#!/bin/bash
# The benchmark: backupd against the tools that people would use instead, on one generated database, interleaved,
# medians, ratios within the run. Prints a table and writes it into docs/benchmarks.md.
#
#     benches/run.sh [--scale N] [--rounds N] [--only postgresql|sqlite] [--memory-only]
#
# --memory-only takes one backup of a database of the given scale and fails where the daemon's memory peaks above 128 MiB.
# BENCH_DIR is the folder for database and repositories (a real disk; default /var/tmp). Needs target/release.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/.." && pwd)
scale=1 rounds=3 only= memory_only= writer_alone=5
while [ $# -gt 0 ]; do
    case $1 in
        --scale) scale=$2; shift 2 ;;
        --rounds) rounds=$2; shift 2 ;;
        --only) only=$2; shift 2 ;;
        --memory-only) memory_only=1; shift ;;
        *) echo "usage: run.sh [--scale N] [--rounds N] [--only postgresql|sqlite] [--memory-only]" >&2; exit 2 ;;
    esac
done
export LC_ALL=C.UTF-8 TZ=UTC
pg=$("$root/tests/scripts/throwaway-postgres" --bin-dir)
release=$root/target/release
cargo=${CARGO:-cargo}

. "$here/measure.sh"
. "$here/sqlite.sh"

work=$(mktemp -d "${BENCH_DIR:-/var/tmp}/backupd-bench.XXXXXX")
chmod 755 "$work"
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

postgresql() {
    for ((round = 1; round <= rounds; round++)); do
        echo "-- round $round of $rounds" >&2
        discard limit "$pg/pg_dump"
        backupd_round
        rival zstd 'pg_dump | zstd -T0' zst
        rival gzip 'pg_dump | gzip' gz
        rival custom 'pg_dump -Fc' dump
        if command -v restic >/dev/null; then restic_round; fi
        discard limit "$pg/pg_dump"
    done
    many=$(cd "$root" && $cargo bench --quiet --locked $(features) --bench many_backups)
    report | tee "$work/table.md"
    publish "table" "$work/table.md"
}

sqlite() {
    make_sqlite
    for ((round = 1; round <= rounds; round++)); do
        echo "-- SQLite, round $round of $rounds" >&2
        lite_round
    done
    lite_gzip_once
    blocks=$(cd "$root" && BENCH_DIR=$work BACKUPD_BENCH_SQLITE=$lite $cargo bench --quiet --locked $(features) --bench sqlite_blocks)
    lite_report | tee "$work/sqlite.md"
    publish "sqlite" "$work/sqlite.md"
}

if [ "$only" = sqlite ]; then
    sqlite
    exit
fi
make_database
if [ -n "$memory_only" ]; then
    backupd_variant gzip "$release" 'codec = "gzip"'
    peak=$(median gzip.peak)
    echo "scale $scale: peak memory of the daemon $peak MB"
    awk -v peak="$peak" 'BEGIN { exit !(peak <= 134.2) }'
    exit
fi
build_fallback
postgresql
if [ -z "$only" ]; then sqlite; fi
