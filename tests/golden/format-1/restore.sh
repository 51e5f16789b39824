#!/bin/sh
# Restores files of a backupd repository with nothing but a POSIX shell, coreutils (or busybox) and gzip or zstd.
#
#   sh restore.sh list                  the backups: id, time of the snapshot, source
#   sh restore.sh files BACKUP          the files of a backup: length and name
#   sh restore.sh cat BACKUP FILE...    those files, to standard output
#   sh restore.sh sql BACKUP            pre-data, data and post-data in order: one script for psql
#
# BACKUP is the beginning of an id, or the backup's folder. Restore into a new, empty database:
#   createdb NEW && sh restore.sh sql BACKUP | psql -X -v ON_ERROR_STOP=1 -d NEW    (on any error: dropdb NEW)
#
# Every pack that is needed is checked against its SHA-256 before the first byte is printed. If reading fails later all
# the same, or the result does not match its SHA-256, what is printed last makes psql fail, and the exit code is 1.
# Nothing is written but a folder below ${TMPDIR:-/tmp}.

set -u
umask 077
LC_ALL=C
export LC_ALL
tab=$(printf '\t')
temporary=
printing=

say() { printf 'restore.sh: %s\n' "$1" >&2; }

# Ends a COPY, and is an error for psql wherever it stands.
poison() {
    printf '\n\\.\n\\backupd_restore_failed\nbackupd: reading failed, this restore is incomplete: drop the database;\n'
}

die() {
    say "$1"
    if [ -n "$printing" ]; then
        printing=
        poison
    fi
    exit 1
}

cleanup() { if [ -n "$temporary" ]; then rm -rf "$temporary"; fi; }
trap cleanup EXIT
trap 'die "interrupted"' HUP INT TERM

usage() {
    say 'usage: restore.sh list | files BACKUP | cat BACKUP FILE... | sql BACKUP'
    exit 2
}

hash_of() {
    hash=$(sha256sum < "$1") || return 1
    hash=${hash%% *}
}

# Calls "$1 FOLDER" for every backup.
each_backup() {
    for folder in "$root"/backups/*/*/*; do
        if [ -f "$folder/manifest.json" ] && [ ! -e "$folder/deleted.json" ]; then "$1" "$folder"; fi
    done
}

print_backup() {
    name=${1##*/}
    source=${1%/*}
    source=${source#"$root"/backups/}
    printf '%s  %s  %s\n' "${name#*-}" "${name%%-*}" "${source%/_}"
}

match_backup() {
    name=${1##*/}
    case ${name#*-} in
    "$wanted"*)
        if [ -n "$backup" ]; then die "more than one backup begins with $wanted: give more digits"; fi
        backup=$1
        ;;
    esac
}

find_backup() {
    backup=
    case $1 in
    */*) if [ -f "$1/manifest.json" ]; then backup=${1%/}; fi ;;
    ?*)
        wanted=$1
        each_backup match_backup
        ;;
    esac
    if [ -z "$backup" ]; then die "no backup matches $1; 'sh restore.sh list' shows what there is"; fi
    check_backup
}

# The folder's name vouches for the manifest, and the manifest for extents.tsv.
check_backup() {
    id=${backup##*/}
    id=${id#*-}
    hash_of "$backup/manifest.json" || die "cannot read $backup/manifest.json"
    case $hash in
    "$id"????????????????????????????????) ;;
    *) die "$backup/manifest.json is damaged: its SHA-256 does not begin with the backup's id" ;;
    esac
    expected=$(tr ',' '\n' < "$backup/manifest.json" | while IFS= read -r line; do
        case $line in
        '"extents_sha256":"'*)
            line=${line#'"extents_sha256":"'}
            printf '%s' "${line%%\"*}"
            break
            ;;
        esac
    done)
    hash_of "$backup/extents.tsv" || die "cannot read $backup/extents.tsv"
    if [ "$hash" != "$expected" ]; then die "$backup/extents.tsv is damaged: its SHA-256 is not the one in the manifest"; fi
}

list_files() {
    while IFS=$tab read -r kind name length _; do
        if [ "$kind" = file ]; then printf '%s\t%s\n' "$length" "$name"; fi
    done < "$backup/extents.tsv"
}

# Writes the ranges of file $1 to $2; sets length, sum and codec.
ranges_of() {
    codec=
    inside=
    : > "$2" || die "cannot write to $temporary"
    while IFS=$tab read -r first second third fourth fifth; do
        if [ "$first" = file ]; then
            inside=
            if [ "$second" = "$1" ]; then
                inside=1
                length=$third
                sum=$fourth
                codec=$fifth
            fi
        elif [ -n "$inside" ]; then
            printf '%s\t%s\t%s\n' "$first" "$second" "$third"
        fi
    done < "$backup/extents.tsv" > "$2"
    case $codec in
    gzip) ending=gz ;;
    zstd) ending=zst ;;
    '') die "the backup has no file $1; 'sh restore.sh files' shows what it has" ;;
    *) die "file $1 is stored as $codec, which this script does not know" ;;
    esac
}

pack_path() { path=$root/packs/${1%"${1#??}"}/$1.$ending; }

# Checks every pack of the ranges in $1: that it is there, that it matches its name, that no range exceeds it.
check_packs() {
    last=
    sort "$1" > "$temporary/sorted" || die "cannot sort in $temporary"
    while IFS=$tab read -r pack offset count; do
        if [ "$pack" != "$last" ]; then
            last=$pack
            pack_path "$pack"
            if [ ! -r "$path" ]; then die "the pack $path is missing"; fi
            hash_of "$path" || die "cannot read $path"
            if [ "$hash" != "$pack" ]; then die "the pack $path is damaged: its SHA-256 is $hash"; fi
            size=$(wc -c < "$path") || die "cannot read $path"
        fi
        if [ $((offset + count)) -gt "$size" ]; then die "the pack $path is shorter than the backup needs"; fi
    done < "$temporary/sorted"
}

stored_bytes() {
    while IFS=$tab read -r pack offset count; do
        pack_path "$pack"
        if [ ! -r "$path" ]; then
            say "the pack $path has vanished"
            return 1
        fi
        tail -c "+$((offset + 1))" "$path" | head -c "$count" || return 1
    done < "$1"
}

decode() {
    case $codec in
    gzip) gzip -dc ;;
    zstd) zstd -dcq ;;
    esac
}

plaintext() {
    # An empty file has no ranges, and gzip takes empty input for damage.
    if [ -s "$1" ]; then
        { stored_bytes "$1" || : > "$temporary/failed"; } | decode || : > "$temporary/failed"
    fi
}

# Prints one file, and compares its SHA-256 at the end.
print_file() {
    ranges_of "$1" "$temporary/ranges"
    rm -f "$temporary/failed" "$temporary/pipe"
    mkfifo "$temporary/pipe" || die "cannot make a pipe in $temporary"
    sha256sum < "$temporary/pipe" > "$temporary/sum" &
    plaintext "$temporary/ranges" | tee "$temporary/pipe" || die "cannot print $1"
    wait $! || die "cannot compute the SHA-256 of $1"
    read -r hash _ < "$temporary/sum" || die "cannot compute the SHA-256 of $1"
    if [ -e "$temporary/failed" ] || [ "$hash" != "$sum" ]; then die "reading $1 failed: it is incomplete or wrong"; fi
}

# Prints the files named: checks the packs of all of them first.
print_files() {
    : > "$temporary/all"
    for file; do
        ranges_of "$file" "$temporary/ranges"
        cat "$temporary/ranges" >> "$temporary/all" || die "cannot write to $temporary"
    done
    check_packs "$temporary/all"
    printing=1
    for file; do print_file "$file"; done
    printing=
}

print_sql() {
    set --
    while IFS=$tab read -r kind name _; do
        if [ "$kind" = file ]; then
            case $name in
            pre-data.sql | data-*.sql | post-data.sql) set -- "$@" "$name" ;;
            esac
        fi
    done < "$backup/extents.tsv"
    if [ $# -eq 0 ]; then die 'this backup holds no SQL'; fi
    print_files "$@"
}

case $0 in
/*) root=${0%/*} ;;
*/*) root=./${0%/*} ;;
*) root=. ;;
esac
if [ ! -f "$root/REPOSITORY.json" ]; then die "$root is not a repository: this script must lie in one"; fi
verb=${1-}
case $verb in
list)
    if [ $# -ne 1 ]; then usage; fi
    each_backup print_backup
    exit 0
    ;;
files | sql) if [ $# -ne 2 ]; then usage; fi ;;
cat) if [ $# -lt 3 ]; then usage; fi ;;
*) usage ;;
esac
temporary=$(mktemp -d "${TMPDIR:-/tmp}/restore.XXXXXXXXXX") || {
    temporary=
    die "cannot make a folder below ${TMPDIR:-/tmp}"
}
find_backup "$2"
shift 2
case $verb in
files) list_files ;;
cat) print_files "$@" ;;
sql) print_sql ;;
esac
