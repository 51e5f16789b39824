# Parts of run.sh: the database, running and timing each tool, medians, the table. Sourced.
# A sample is a line in $work/samples/NAME.

daemon=
server=

note() { mkdir -p "$work/samples"; echo "$2" >>"$work/samples/$1"; }

median() {
    [ -s "$work/samples/$1" ] || { echo nan; return; }
    sort -g "$work/samples/$1" | awk '{ v[NR] = $1 } END { print NR % 2 ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}

calc() { awk "BEGIN { printf \"%.${2:-2}f\", $1 }"; }
bytes_of() { find "$@" -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum + 0 }'; }

TIMEFORMAT='%R %U %S'

# timed NAME COMMAND...: seconds into NAME.s, CPU seconds of the command and its children into NAME.cpu.
timed() {
    local name=$1 wall user system
    shift
    { time "$@" 2>&9; } 9>&2 2>"$work/time"
    read -r wall user system <"$work/time"
    note "$name.s" "$wall"
    note "$name.cpu" "$(calc "$user + $system")"
    echo "   $name: $wall s" >&2
}

make_database() {
    mkfifo "$work/in" "$work/out"
    "$root/tests/scripts/throwaway-postgres" "$work/server" shared_buffers=512MB max_wal_size=4GB wal_level=replica fsync=on \
        <"$work/in" >"$work/out" &
    server=$!
    exec 7>"$work/in" 8<"$work/out"
    read -r -t 120 word _ <&8 && [ "$word" = ready ]
    export PGHOST=$work/server/socket PGUSER=postgres PGDATABASE=bench PGOPTIONS='-c statement_timeout=0'
    "$pg/psql" -X -q -d postgres -c 'CREATE DATABASE bench'
    echo "-- making the database" >&2
    "$pg/psql" -X -q -v ON_ERROR_STOP=1 -v "scale=$scale" -f "$here/data.sql" >/dev/null
    "$pg/psql" -X -q -c CHECKPOINT
    raw=$("$pg/pg_dump" | wc -c)
    size=$("$pg/psql" -X -A -t -c 'SELECT pg_database_size(current_database())')
}

features() { if [ "$(uname -m)" = x86_64 ] && pkg-config --exists libisal 2>/dev/null; then echo --features isal; fi; }

# Without ISA-L: what a machine without the library gets.
build_fallback() {
    [ -n "$(features)" ] || return 0
    (cd "$root" && $cargo build --quiet --release --locked --target-dir "$root/target/fallback")
    ln -s "$root/target/fallback/release" "$work/fallback"
}

discard() { timed "$@" >/dev/null; }

# rival NAME PIPELINE ENDING: runs the pipeline into a file.
rival() {
    local file=$work/rival.$3
    timed "$1" env PATH="$pg:$PATH" bash -o pipefail -c "$2 >'$file'"
    note "$1.stored" "$(bytes_of "$file")"
    rm -f "$file"
}

restic_round() {
    local repository=$work/restic
    export RESTIC_PASSWORD=x RESTIC_CACHE_DIR=$work/restic-cache
    restic -q init -r "$repository"
    timed restic env PATH="$pg:$PATH" bash -o pipefail -c "pg_dump | restic -q -r '$repository' backup --stdin"
    note restic.stored "$(bytes_of "$repository")"
    rm -rf "$repository" "$work/restic-cache"
}

start_daemon() {
    local programs=$1 setting=$2
    rm -rf "$work/world"
    mkdir -p "$work/world/config/sources.d" "$work/world/state"
    printf '[repository]\npath = "%s"\n%s\n' "$work/world/repository" "$setting" >"$work/world/config/backupd.toml"
    if [ -n "$server" ]; then
        printf 'type = "postgresql"\nhost = "%s"\ndatabase = "bench"\nuser = "postgres"\n' "$PGHOST" >"$work/world/config/sources.d/bench.toml"
    fi
    "$programs/backupd" --config-dir "$work/world/config" --state-dir "$work/world/state" --bus none \
        --listen "unix:path=$work/world/socket" 5>&- 7>&- 8<&- >"$work/daemon.log" 2>&1 &
    daemon=$!
    ctl="$programs/backupctl --address unix:path=$work/world/socket"
    for _ in {1..200}; do if $ctl status >/dev/null 2>&1; then return; fi; sleep 0.05; done
    cat "$work/daemon.log" >&2
    exit 1
}

stop_daemon() {
    [ -n "$daemon" ] || return 0
    kill -TERM "$daemon" 2>/dev/null || true
    wait "$daemon" || true
    daemon=
}

# CPU seconds of the daemon and its finished children so far.
daemon_cpu() { awk -v hz="$(getconf CLK_TCK)" '{ sub(/.*\) /, ""); print ($12 + $13 + $14 + $15) / hz }' "/proc/$daemon/stat"; }

# one_job NAME VERB...: runs a verb; time, the daemon's CPU and the repository's growth.
one_job() {
    local name=$1 cpu before
    shift
    cpu=$(daemon_cpu)
    before=$(bytes_of "$work/world/repository")
    timed "$name" $ctl "$@" >/dev/null
    note "$name.daemon_cpu" "$(calc "$(daemon_cpu) - $cpu")"
    note "$name.new" $(($(bytes_of "$work/world/repository") - before))
    note "$name.peak" "$(awk '/^VmHWM/ { print $2 * 1024 / 1e6 }' "/proc/$daemon/status")"
}

# backupd_variant NAME PROGRAMS SETTING: one full backup into a new repository; leaves the daemon running.
backupd_variant() {
    start_daemon "$2" "$3"
    one_job "$1" create bench
}

backupd_round() {
    if [ -d "$work/fallback" ]; then
        backupd_variant libdeflate "$work/fallback" 'codec = "gzip"'
        stop_daemon
    fi
    backupd_variant unchecked "$release" $'codec = "gzip"\ncompare = false'
    stop_daemon
    backupd_variant zstd_codec "$release" 'codec = "zstd"'
    stop_daemon
    backupd_variant full "$release" 'codec = "gzip"'
    one_job unchanged create bench
    one_job verify verify bench@latest --level=data
    "$pg/psql" -X -q -v ON_ERROR_STOP=1 -f "$here/append.sql" >/dev/null
    one_job appended create bench
    stop_daemon
}

# row LABEL NAME BYTES PEAK CPU
row() {
    local s
    s=$(median "$2.s")
    printf '| %s | %s | %s | %s | %s | %s |\n' "$1" "$(calc "$s" 1)" "$(calc "$s / $(median limit.s)")" "$3" "$4" "$5"
}

share() { calc "$1 / $(median full.new) * 100" "${2:-2}"; }
mega() { calc "$1 / 1e6" "${2:-0}"; }

ours() {
    [ -s "$work/samples/$2.s" ] || return 0
    row "**backupd** $1" "$2" "$(mega "$(median "$2.new")") MB" "$(calc "$(median "$2.peak")" 0) MB" "$(calc "$(median "$2.daemon_cpu")" 1)"
}

theirs() {
    [ -s "$work/samples/$2.s" ] || return 0
    row "\`${1//|/\\|}\`" "$2" "$(mega "$(median "$2.stored")") MB" "" "$(calc "$(median "$2.cpu")" 1)"
}

report() {
    echo "Database: $(mega "$size") MB on disk, $(mega "$raw") MB as a plain dump; PostgreSQL $("$pg/postgres" --version | grep -o '[0-9.]*' | head -n 1)," \
        "$(nproc) cores ($(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)), $(awk '/MemTotal/ { printf "%.0f", $2 / 1e6 }' /proc/meminfo) GB of memory; medians of $rounds interleaved rounds."
    printf '\n| what | s | x limit | stored or new | peak memory of the daemon | CPU s |\n|---|---|---|---|---|---|\n'
    row '`pg_dump > /dev/null`, the limit' limit "" "" "$(calc "$(median limit.cpu)" 1)"
    ours 'full, gzip (ISA-L)' full
    ours 'full, gzip (ISA-L), nothing compared' unchecked
    ours 'full, gzip (libdeflate, which builds anywhere)' libdeflate
    ours 'full, zstd' zstd_codec
    ours 'again, unchanged' unchanged
    ours 'again, 1 % of the rows appended' appended
    theirs 'pg_dump | gzip' gzip
    theirs 'pg_dump | zstd -T0' zstd
    theirs 'pg_dump -Fc' custom
    theirs 'pg_dump | restic backup --stdin' restic
    printf '\n| goal | measured |\n|---|---|\n'
    echo "| full at most 1.25x of the limit | $(calc "$(median full.s) / $(median limit.s)")x |"
    echo "| at least 3.3x faster than \`pg_dump -Fc\`, 4x than \`pg_dump \\| gzip\` | $(calc "$(median custom.s) / $(median full.s)")x, $(calc "$(median gzip.s) / $(median full.s)")x |"
    echo "| stored at most 1.18x (gzip), 1.05x (zstd) of \`pg_dump \\| gzip\` | $(calc "$(median full.new) / $(median gzip.stored)")x, $(calc "$(median zstd_codec.new) / $(median gzip.stored)")x |"
    echo "| unchanged at most 1.1x of the limit, below 0.1 % new | $(calc "$(median unchanged.s) / $(median limit.s)")x, $(share "$(median unchanged.new)" 3) % |"
    echo "| 1 % appended: below 2 % new | $(share "$(median appended.new)") % |"
    echo "| peak memory at most 128 MiB (134 MB) | $(calc "$(median appended.peak)" 0) MB |"
    echo "| \`verify --level=data\`: 400 MB/s per core | $(calc "$raw / 1e6 / $(median verify.daemon_cpu)" 0) MB/s per core |"
    echo "$many"
}

# publish MARK FILE: puts the file between the marks "MARK begins" and "MARK ends" of docs/benchmarks.md.
publish() {
    local page=$root/docs/benchmarks.md
    awk -v begins="<!-- $1 begins -->" -v ends="<!-- $1 ends -->" -v table="$2" '
        $0 == begins { print; print ""; while ((getline line < table) > 0) print line; print ""; skip = 1 }
        $0 == ends { skip = 0 }
        !skip && $0 != begins { print }' "$page" >"$page.new"
    mv "$page.new" "$page"
}

clean_up() {
    local status=$?
    trap - EXIT
    stop_daemon
    exec 5>&- 7>&- 8<&-
    if [ -n "$server" ]; then wait "$server" 2>/dev/null || true; fi
    if [ "$status" -ne 0 ]; then tail -n 20 "$work/daemon.log" 2>/dev/null >&2 || true; fi
    rm -rf "$work"
    exit "$status"
}
