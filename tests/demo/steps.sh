# Parts of demo.sh: servers, daemon, output, measuring, comparing. Sourced; needs $work, $root, $programs, $pg.

table=()
servers=()
pipes=()
daemon=
writer=

if [ -t 1 ]; then bold=$'\033[1m' green=$'\033[32m' red=$'\033[31m' plain=$'\033[0m'; else bold='' green='' red='' plain=''; fi
title() { printf '\n%s== %s%s\n' "$bold" "$1" "$plain"; }
say() { printf '   %s\n' "$1"; }

# Shows a command as a user would type it, then runs it, its output indented.
run_shown() {
    local words=("$@")
    if [ "${words[0]}" = ctl ]; then words[0]=backupctl; fi
    words[0]=${words[0]##*/}
    printf '   $%s\n' "$(printf ' %q' "${words[@]}")"
    "$@" 2>&1 | sed 's/^/   /'
}

mb() { awk -v bytes="$1" 'BEGIN { printf "%.2f", bytes / 1e6 }'; }
measure() { table+=("$1|$(mb "$2") MB|"); }

# timed LABEL COMMAND...: runs it and notes how long it took.
timed() {
    local label=$1 begin=$EPOCHREALTIME
    shift
    "$@"
    table+=("$label||$(awk -v a="$begin" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.2f s", b - a }')")
}

print_table() {
    local row what size time
    printf '   %-40s %12s %10s\n' what size time
    for row in "${table[@]}"; do
        IFS='|' read -r what size time <<<"$row"
        printf '   %-40s %12s %10s\n' "$what" "$size" "$time"
    done
}

# Every file that is there, in bytes that it holds.
disk_usage() { find "$1" -type f -printf '%s\n' | awk '{ sum += $1 } END { print sum + 0 }'; }

# Servers end when the pipe to them closes, which it does however this script ends.
start_server() {
    mkfifo "$work/$1.in" "$work/$1.out"
    "$root/tests/scripts/throwaway-postgres" "$work/$1" <"$work/$1.in" >"$work/$1.out" &
    servers+=($!)
    local to from
    exec {to}>"$work/$1.in" {from}<"$work/$1.out"
    pipes+=("$to")
    read -r -t 120 word _ <&"$from" && [ "$word" = ready ] || { echo "the server did not start" >&2; exit 1; }
}

psql_on() {
    local server=$1 database=$2
    shift 2
    "$pg/psql" -X -q -A -t -v ON_ERROR_STOP=1 -h "$work/$server/socket" -U postgres -d "$database" "$@"
}

# The token of \restrict differs from run to run.
without_token() { sed '/^\\restrict /d; /^\\unrestrict /d'; }
plain_dump() { "$pg/pg_dump" -h "$work/$1/socket" -U postgres -d "$2" | without_token; }
whole_dump() { "$pg/pg_dump" --create -h "$work/$1/socket" -U postgres -d "$2" | without_token; }
roles_of() { "$pg/pg_dumpall" --globals-only --no-role-passwords -h "$work/$1/socket" -U postgres | without_token; }

same() {
    if cmp -s "$1" "$2"; then
        printf '   %sequal%s: %s (%s lines)\n' "$green" "$plain" "$3" "$(wc -l <"$1")"
    else
        printf '   %sDIFFERENT%s, so it is not true that %s:\n' "$red" "$plain" "$3"
        diff "$1" "$2" | head -n 20 || true
        exit 1
    fi
}

write_configuration() {
    mkdir -p "$work/config/sources.d" "$work/state"
    cat >"$work/config/backupd.toml" <<END
[repository]
path = "$work/repository"
END
    cat >"$work/config/sources.d/shop.toml" <<END
type = "postgresql"
host = "$work/first/socket"
database = "shop"
user = "backupd"        # pg_read_all_data and BYPASSRLS, no superuser

[restore]
user = "postgres"

[drill]                 # the throwaway server has an extension that the system's lacks
server_bin_dir = "$work/first/tree$pg"
END
    cat >"$work/config/sources.d/app.toml" <<END
type = "sqlite"
path = "$work/app.db"
END
    cat >"$work/config/sources.d/everything.toml" <<END
type = "postgresql"
host = "$work/first/socket"
database = "all"
user = "backupd"

[restore]
user = "postgres"
END
}

make_small_database() {
    psql_on "$1" postgres -v "name=$2" <<<'CREATE DATABASE :"name"'
    psql_on "$1" "$2" -c 'CREATE TABLE t AS SELECT n, md5(n::text) AS hash FROM generate_series(1, 1000) AS n; CREATE INDEX ON t (hash)'
}

make_accounts() {
    sqlite3 -bail "$1" 'PRAGMA journal_mode = WAL; CREATE TABLE account (id INTEGER PRIMARY KEY, amount INT, note TEXT);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 40000)
        INSERT INTO account(amount, note) SELECT CASE i % 2 WHEN 0 THEN -i / 2 ELSE (i + 1) / 2 END, hex(randomblob(100)) FROM n;' >/dev/null
}

# The application, in a process group of its own: each of its transactions leaves the sum of all accounts at 0.
start_writer() {
    (
        for pipe in "${pipes[@]}"; do exec {pipe}>&-; done
        exec setsid sh -c 'i=0; while :; do i=$((i + 1))
            echo "BEGIN IMMEDIATE; INSERT INTO account(amount, note) VALUES ($i, 1); INSERT INTO account(amount, note) VALUES (-$i, 2); COMMIT;"
        done | exec sqlite3 -bail -cmd ".timeout 10000" "$1"' sh "$1"
    ) </dev/null >"$work/writer.log" 2>&1 &
    writer=$!
}

# Ends it in the middle of whatever it does.
stop_writer() {
    [ -n "$writer" ] || return 0
    kill -KILL -- "-$writer" 2>/dev/null || true
    wait "$writer" 2>/dev/null || true
    writer=
    if [ -s "$work/writer.log" ]; then cat "$work/writer.log" >&2; exit 1; fi
}

ctl() { "$programs/backupctl" --address "unix:path=$work/socket" "$@"; }

start_daemon() {
    local pipe
    # The pipes to the servers are not the daemon's to keep open.
    (
        for pipe in "${pipes[@]}"; do exec {pipe}>&-; done
        exec "$programs/backupd" --config-dir "$work/config" --state-dir "$work/state" --bus none \
            --listen "unix:path=$work/socket"
    ) </dev/null >"$work/daemon.log" 2>&1 &
    daemon=$!
    for _ in {1..100}; do
        if ctl status >/dev/null 2>&1; then return; fi
        kill -0 "$daemon" 2>/dev/null || break
        sleep 0.1
    done
    echo "the daemon did not start:" >&2
    cat "$work/daemon.log" >&2
    exit 1
}

stop_daemon() {
    [ -n "$daemon" ] || return 0
    kill -TERM "$daemon" 2>/dev/null || true
    wait "$daemon" || true
    daemon=
}

# The job whose restore can be undone.
undoable() { ctl restore undo --json=short | sed -n 's/.*"job":\([0-9]*\).*/\1/p'; }

newest_id() { ctl list "$1" --json=short | grep -o '"id":"[0-9a-f]*"' | head -n 1 | cut -d'"' -f4; }

# With a PATH on which nothing of this project is.
restore_by_hand() {
    (
        cd "$work/repository"
        export PATH=$pg:/usr/bin:/bin
        ! command -v backupctl >/dev/null || { echo "backupctl is on $PATH" >&2; exit 1; }
        sh restore.sh sql "$3" | psql -X -q -v ON_ERROR_STOP=1 -h "$work/$1/socket" -U postgres -d "$2" >/dev/null
    )
}

clean_up() {
    local status=$? pipe server
    trap - EXIT
    stop_writer
    stop_daemon
    for pipe in "${pipes[@]}"; do exec {pipe}>&-; done
    for server in "${servers[@]}"; do wait "$server" 2>/dev/null || true; done
    if [ "$status" -ne 0 ]; then
        printf '\nFailed (%s). The last lines of the daemon:\n' "$status" >&2
        tail -n 20 "$work/daemon.log" 2>/dev/null >&2 || true
    fi
    rm -rf "$work"
    exit "$status"
}
