# Part of run.sh: the SQLite figures, on a database in WAL mode into which a writer writes all the time. Sourced.

make_sqlite() {
    echo "-- making the SQLite database" >&2
    lite=$work/bench.db
    sed "s/:scale/$scale/g" "$here/sqlite.sql" | sqlite3 -bail "$lite" >/dev/null
    lite_size=$(stat -c %s "$lite")
}

start_writer() {
    mkfifo "$work/writer.in" "$work/writer.out"
    python3 "$here/sqlite_writer.py" "$lite" <"$work/writer.in" >"$work/writer.out" &
    writer=$!
    exec 5>"$work/writer.in" 6<"$work/writer.out"
    read -r -t 60 word <&6 && [ "$word" = ready ]
}

# stop_writer NAME: its longest transaction and the 99th percentile, in milliseconds, into NAME.pause and NAME.p99.
stop_writer() {
    local longest p99 count
    exec 5>&-
    read -r longest p99 count <&6
    exec 6<&-
    wait "$writer"
    rm "$work/writer.in" "$work/writer.out"
    note "$1.pause" "$longest"
    note "$1.p99" "$p99"
}

# lite_rival NAME COMMAND ENDING: with $copy as the file that .backup makes, and the result in FILE.ENDING.
lite_rival() {
    local copy=$work/copy.db result=$work/lite.$3
    timed "$1" env copy="$copy" lite="$lite" result="$result" bash -o pipefail -c "sqlite3 \"\$lite\" \".backup '\$copy'\" && $2"
    if [ -e "$result" ]; then note "$1.stored" "$(bytes_of "$result")"; fi
    rm -f "$copy" "$result"
}

lite_restic() {
    local repository=$work/restic
    export RESTIC_PASSWORD=x RESTIC_CACHE_DIR=$work/restic-cache
    restic -q init -r "$repository"
    lite_rival lite_restic "restic -q -r '$repository' backup \"\$copy\"" none
    note lite_restic.stored "$(bytes_of "$repository")"
    rm -rf "$repository" "$work/restic-cache"
}

# Changes one row in each of so many places that it makes a hundredth of the pages.
change_pages() {
    local each=$((lite_size / 4096 / 200))
    sqlite3 -bail -cmd '.timeout 60000' "$lite" "
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $each)
        UPDATE documents SET body = replace(body, 'lorem', hex(randomblob(2))) WHERE id IN
        (SELECT 1 + abs(random()) % (SELECT max(id) FROM documents) FROM n);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < $each)
        UPDATE orders SET amount = -amount WHERE id IN (SELECT 1 + abs(random()) % (SELECT max(id) FROM orders) FROM n);"
}

lite_round() {
    start_writer
    sleep "$writer_alone"
    stop_writer lite_alone

    start_daemon "$release" 'codec = "gzip"'
    printf 'type = "sqlite"\npath = "%s"\n' "$lite" >"$work/world/config/sources.d/lite.toml"
    $ctl reload >/dev/null
    start_writer
    one_job lite_full create lite
    stop_writer lite_full
    change_pages
    start_writer
    one_job lite_changed create lite
    stop_writer lite_changed
    stop_daemon

    # Without the writer: each of its commits makes .backup begin again, and it would not end.
    lite_rival lite_copy true none
    lite_rival lite_igzip '{ ! command -v igzip >/dev/null || igzip -1 -c "$copy" >"$result"; }' gz
    lite_rival lite_zstd 'zstd -q -T0 -c "$copy" >"$result"' zst
    if command -v restic >/dev/null; then lite_restic; fi
}

# Too slow for every round.
lite_gzip_once() { lite_rival lite_gzip 'gzip -c "$copy" >"$result"' gz; }

# lite_row LABEL NAME BYTES PAUSE PEAK CPU
lite_row() { printf '| %s | %s | %s | %s | %s | %s |\n' "$1" "$(calc "$(median "$2.s")" 1)" "$3" "$4" "$5" "$6"; }

lite_ours() {
    lite_row "**backupd** $1" "$2" "$(mega "$(median "$2.new")") MB" "$(median "$2.pause") ms" "$(calc "$(median "$2.peak")" 0) MB" \
        "$(calc "$(median "$2.daemon_cpu")" 1)"
}

lite_theirs() {
    [ -s "$work/samples/$2.s" ] || return 0
    local stored=
    if [ -s "$work/samples/$2.stored" ]; then stored="$(mega "$(median "$2.stored")") MB"; fi
    lite_row "\`${1//|/\\|}\`" "$2" "$stored" "" "" "$(calc "$(median "$2.cpu")" 1)"
}

lite_report() {
    printf '\n### SQLite\n\n%s MB in WAL mode; a writer of some 300 transactions a second goes on beside backupd, and not beside the others: with it, `sqlite3 .backup` begins again at each commit and does not end. Medians of %s rounds.\n' \
        "$(mega "$lite_size")" "$rounds"
    printf '\n| what | s | stored or new | longest transaction of the writer | peak memory of the daemon | CPU s |\n|---|---|---|---|---|---|\n'
    echo "| the writer alone | | | $(median lite_alone.pause) ms | | |"
    lite_ours 'full, gzip (ISA-L)' lite_full
    lite_ours 'again, 1 % of the pages changed' lite_changed
    lite_theirs 'sqlite3 .backup' lite_copy
    if [ -s "$work/samples/lite_igzip.stored" ]; then lite_theirs 'sqlite3 .backup && igzip -1' lite_igzip; fi
    lite_theirs 'sqlite3 .backup && zstd -T0' lite_zstd
    lite_theirs 'sqlite3 .backup && gzip' lite_gzip
    lite_theirs 'sqlite3 .backup && restic backup' lite_restic
    printf '\n| goal | measured |\n|---|---|\n'
    if [ -s "$work/samples/lite_igzip.stored" ]; then
        echo "| at most 2x of \`.backup\` plus compression with the same codec (igzip -1) | $(calc "$(median lite_full.s) / $(median lite_igzip.s)")x |"
    fi
    echo "| 1 % of the pages changed: below 10 % new | $(calc "$(median lite_changed.new) / $(median lite_full.new) * 100") % |"
    echo "| no pause of the writer over 100 ms | longest $(sort -g "$work"/samples/lite_{full,changed}.pause | tail -n 1) ms, 99 of 100 below $(median lite_full.p99) ms; without a backup longest $(sort -g "$work/samples/lite_alone.pause" | tail -n 1) ms |"
    echo "| peak memory at most 128 MiB (134 MB) | $(calc "$(median lite_full.peak)" 0) MB |"
    printf '\nHow large blocks should be, with the same database:\n\n%s\n' "$blocks"
}
