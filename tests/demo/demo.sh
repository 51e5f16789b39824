#!/bin/bash
# The demonstration: a sample database is backed up, verified, dropped, restored and compared, on PostgreSQL servers
# that exist only while this runs, and so is an SQLite database while an application writes into it. `make demo` builds
# the programs first. Ends with 1 at the first thing that differs.
#
#     demo.sh [SCALE]     SCALE 1 is about 2.5 MB of SQL; the default is 10
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
scale=${1:-10}
programs=${BACKUPD_PROGRAMS:-$root/target/release}
pg=$("$root/tests/scripts/throwaway-postgres" --bin-dir)
export LC_ALL=C.UTF-8 TZ=UTC

. "$here/steps.sh"

work=$(mktemp -d /tmp/backupd-demo.XXXXXX)
chmod 755 "$work"
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

title "A throwaway PostgreSQL server with a sample database"
start_server first
say "server $("$pg/postgres" --version | grep -o '[0-9][0-9.]*' | head -1), socket only, in $work/first"
timed "make the sample database" psql_on first postgres -v db=shop -v "scale=$scale" -f "$root/tests/fixtures/sample.sql"
size=$(psql_on first shop -c "SELECT pg_database_size('shop')")
say "schemas, partitions (hash and range), large objects, bytea, jsonb, an extension with rows of the user, an event"
say "trigger, publications, hostile names, row level security: $(mb "$size") MB as the server counts"
reference=$work/reference.sql
whole_dump first shop >"$reference"
roles_of first >"$work/reference-roles.sql"
measure "plain pg_dump of the same" "$(stat -c %s "$reference")"

title "The daemon: reads as an ordinary role, restores as another one"
write_configuration
run_shown cat "$work/config/backupd.toml" "$work/config/sources.d/shop.toml"
start_daemon
run_shown ctl config check --config-dir "$work/config"
run_shown ctl sources

title "Back up"
timed "first backup" run_shown ctl create shop --tag demo --description "before anything went wrong"
measure "  new bytes in the repository" "$(disk_usage "$work/repository")"
before=$(disk_usage "$work/repository")
timed "the same again" run_shown ctl create shop
measure "  new bytes in the repository" $(($(disk_usage "$work/repository") - before))
run_shown ctl list
backup=$(newest_id shop)
run_shown ctl show "$backup"

title "Verify: every byte is read back, decoded and hashed"
timed "verify --level=data" run_shown ctl verify "$backup" --level=data

title "Drill: restored into a scratch server as another user, looked at, timed"
if [ "$(id -u)" -eq 0 ]; then
    timed "drill" run_shown ctl drill "$backup"
    run_shown ctl list shop
else
    say "only root can become that other user here; on a host with the package systemd does"
fi

title "From another program: Python over D-Bus, $(wc -l <"$root/docs/examples/backup.py") lines"
timed "backup by docs/examples/backup.py" run_shown env "BACKUPD_ADDRESS=unix:path=$work/socket" \
    /usr/bin/python3 "$root/docs/examples/backup.py" shop

title "An SQLite database, while its application writes into it"
make_accounts "$work/app.db"
start_writer "$work/app.db"
run_shown cat "$work/config/sources.d/app.toml"
run_shown ctl reload
timed "SQLite: backup beside a writer" run_shown ctl create app
during=$(newest_id app)
stop_writer
say "the application moved money in $(sqlite3 "$work/app.db" 'SELECT max(id) / 2 FROM account') transactions; then it was killed"
run_shown ctl create app
sqlite3 "$work/app.db" .dump >"$work/app-reference.sql"
rm -f "$work"/app.db*
say "rm app.db"
timed "SQLite: restore" run_shown ctl restore app@latest --yes
sqlite3 "$work/app.db" .dump >"$work/app-restored.sql"
same "$work/app-reference.sql" "$work/app-restored.sql" "the restored SQLite database is equal to the lost one"
sh "$work/repository/restore.sh" cat "$during" database.sqlite >"$work/during.db"
printf '0\nok\n' >"$work/expected"
sqlite3 "$work/during.db" 'SELECT sum(amount) FROM account; PRAGMA integrity_check' >"$work/found"
same "$work/expected" "$work/found" "the backup taken meanwhile, restored by hand, is the state between two transactions"

title "All databases of the server in one run, and onto an empty server"
databases=(shop crm archive 'the "old" one')
for database in "${databases[@]:1}"; do make_small_database first "$database"; done
run_shown cat "$work/config/sources.d/everything.toml"
timed "whole server: backup of all databases" run_shown ctl create everything
run_shown ctl list everything
start_server third
timed "whole server: restore --all" run_shown "$programs/backupctl" --no-daemon --repository "$work/repository" \
    restore everything --all --connection "postgresql://postgres@/postgres?host=$work/third/socket" --yes
for database in "${databases[@]}"; do
    whole_dump first "$database" >"$work/first.sql"
    whole_dump third "$database" >"$work/third.sql"
    same "$work/first.sql" "$work/third.sql" "the restored database $database is equal"
done
roles_of first >"$work/first-roles.sql"
roles_of third >"$work/third-roles.sql"
same "$work/first-roles.sql" "$work/third-roles.sql" "the roles of the server are equal"

title "Lose the database, restore it"
psql_on first postgres -c 'DROP DATABASE shop'
say "DROP DATABASE shop"
run_shown ctl restore "$backup" --dry-run
timed "restore" run_shown ctl restore "$backup" --yes
whole_dump first shop >"$work/restored.sql"
same "$reference" "$work/restored.sql" "the restored database is equal to the lost one"

title "A bad migration: restored in place, undone, and redone"
psql_on first shop -c 'CREATE TABLE bad_migration AS SELECT 1 AS n; CREATE VIEW on_it AS SELECT * FROM bad_migration' >/dev/null
say "CREATE TABLE bad_migration, CREATE VIEW on_it"
whole_dump first shop >"$work/migrated.sql"
timed "restore in place (backed up, built, swapped)" run_shown ctl restore "$backup" --yes
whole_dump first shop >"$work/in-place.sql"
same "$reference" "$work/in-place.sql" "the database is as it was backed up"
run_shown ctl restore undo
timed "undo" run_shown ctl restore undo "$(undoable)" --yes
whole_dump first shop >"$work/undone.sql"
same "$work/migrated.sql" "$work/undone.sql" "the undone database is as it was before the restore"
timed "undo of the undo" run_shown ctl restore undo "$(undoable)" --yes
whole_dump first shop >"$work/redone.sql"
same "$reference" "$work/redone.sql" "the database is as it was backed up again"

title "What changed since, what stays, and who needs how much"
run_shown ctl diff "$backup" shop@latest
run_shown ctl retention explain shop
run_shown ctl space

title "Once more by hand: restore.sh and psql, no backupd"
stop_daemon
psql_on first postgres -c 'CREATE DATABASE by_hand TEMPLATE template0 ENCODING UTF8'
say "cd repository; sh restore.sh sql ${backup:0:8} | psql -X -v ON_ERROR_STOP=1 -d by_hand"
timed "restore by hand" restore_by_hand first by_hand "$backup"
plain_dump first shop >"$work/shop.sql"
plain_dump first by_hand >"$work/by_hand.sql"
same "$work/shop.sql" "$work/by_hand.sql" "the database restored by hand is equal, too"

title "On an empty second server, from the repository folder only, roles included"
start_server second
timed "restore on another server" run_shown "$programs/backupctl" --no-daemon --repository "$work/repository" \
    restore "$backup" --connection "postgresql://postgres@/postgres?host=$work/second/socket" --create-roles --yes
whole_dump second shop >"$work/second.sql"
roles_of second >"$work/second-roles.sql"
same "$reference" "$work/second.sql" "the database on the second server is equal"
same "$work/reference-roles.sql" "$work/second-roles.sql" "its roles are equal"

title "Sizes and times"
print_table

title "How it stands"
start_daemon
# Nothing is critical here; a warning, as of space that is short on this machine, is none of the demonstration's business.
run_shown ctl health || [ $? -eq 1 ]
run_shown ctl stats
stop_daemon
say "All equal. Everything that this made is removed again."
