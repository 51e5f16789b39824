# What build-deb and build-rpm have in common; they source this file with $root, the checkout, being set.
# shellcheck shell=bash disable=SC2154   # $root

export LC_ALL=C.UTF-8 TZ=UTC
umask 022

programs=$root/target/release
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -1)-1
maintainer="${DEBFULLNAME:-The backupd authors} <${DEBEMAIL:-backupd@backupd.org}>"
# Times in a package are that of the last commit.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git -C "$root" log -1 --format=%ct 2>/dev/null || stat -c %Y "$root/CHANGELOG.md")}
export SOURCE_DATE_EPOCH

# Sets $programs, $output, $version and $fast from the command line.
read_options() { # OPTION...
    while [ $# -gt 0 ]; do
        case $1 in
            --programs) programs=$(realpath "$2") && shift 2 ;;
            --output) output=$2 && shift 2 ;;
            --version) version=$2 && shift 2 ;;
            --fast) fast=1 && shift ;;
            *) echo "${0##*/}: what is $1?" >&2 && exit 2 ;;
        esac
    done
    mkdir -p "$output"
    output=$(realpath "$output")
}

# Installs what every package has into a folder: `make install`, without what only a debugger reads, with the configuration and the licences
# of what is compiled in.
stage() { # FOLDER [VARIABLE=VALUE of make]...
    local tree=$1
    shift
    make --no-print-directory -s -C "$root" install PROGRAMS="$programs" PREFIX=/usr DESTDIR="$tree" "$@"
    binaries=("$tree"/usr/{bin/backupctl,libexec/backupd,lib/systemd/system-generators/backupd-generator})
    strip --strip-unneeded --remove-section=.comment --remove-section=.note "${binaries[@]}"
    if [ -z "$fast" ]; then no_build_paths; fi
    "$root/packaging/third-party-notices" | gzip -9n >"$tree/usr/share/doc/backupd/third-party-notices.gz"
    find "$tree/usr/share/man" -type f -exec gzip -9n {} +
    install -D -m 644 "$root/docs/examples/backupd.toml" "$tree/etc/backupd/backupd.toml"
    install -d -m 755 "$tree/etc/backupd/sources.d"
    install -d -m 700 "$tree/etc/backupd/credentials" "$tree/etc/backupd/credentials.encrypted"
}

# Programs for others say nothing of the machine that built them, and are the same wherever they are built.
no_build_paths() {
    local path
    for path in "$root" "${CARGO_HOME:-$HOME/.cargo}" "$(dirname "$programs")"; do
        if grep -qaF "$path/" "${binaries[@]}"; then
            echo "${0##*/}: the programs have the path $path: build them with \`make\`, which runs cargo by packaging/reproducible" >&2
            exit 1
        fi
    done
}

# Gives everything in a folder the one time.
settle_times() { # FOLDER
    find "$1" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +
}
