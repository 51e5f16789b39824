//! Who may do what, with the polkitd, logind, PAM and journal of a system: root, the daemon's user, administrators, plain
//! users, members of the operators' group of the sample rule; with and without a session; with a password on a terminal.

use backupd::model::message_id;
use serde_json::Value;

use crate::machine::{System, VERSION};

on_each_system!(each_user_may_do_what_the_policy_says);

/// A plain user, an administrator (a member of `sudo`), and who will be an operator.
const PLAIN: &str = "anna";
const ADMIN: &str = "adam";
const OPERATOR: &str = "olga";
const PASSWORD: &str = "sesame-street";

/// A call of each verb, as `busctl` makes it, and the action that it needs. The job 1 is root's, of the type create.
const CALLS: [(&str, &str); 10] = [
    ("ListBackups a{sv}tst 0 0 '' 0", "inspect"),
    ("GetBackup st shop@latest 0", "inspect"),
    ("PlanRestore sa{sv}t shop@latest 0 0", "inspect"),
    ("CreateBackup sa{sv}t shop 0 0", "create"),
    ("VerifyBackup sa{sv}t shop@latest 0 0", "verify"),
    ("RestoreBackup sa{sv}t shop@latest 1 to s copy 0", "restore"),
    ("DeleteBackup sa{sv}t shop@latest 0 0", "delete"),
    ("OpenBackup sa{sv}t shop@latest 0 0", "export"),
    ("Reload t 0", "reload"),
    ("CancelJob tt 1 0", "create"),
];

fn each_user_may_do_what_the_policy_says(system: &System) {
    system.install(VERSION);
    system.with_source();
    // The daemon's role restores, too: who may is what this is about.
    system.sh(&format!(
        "cd / && runuser -u postgres -- psql -qX -c 'ALTER ROLE backupd SUPERUSER'
        useradd -m {PLAIN} && useradd -m -G sudo {ADMIN} && printf '%s\\n' {ADMIN}:{PASSWORD} | chpasswd
        groupadd backup-operators && useradd -m -G backup-operators {OPERATOR}"
    ));
    trusted_users_are_asked_nothing(system);
    others_must_authenticate(system);
    a_session_at_the_seat_may_look(system);
    a_password_on_the_terminal_is_an_answer(system);
    operators_may_what_the_rule_says(system);
    a_job_is_cancelled_by_who_started_it(system);
    the_journal_has_who_asked_for_what(system);
    signals_can_be_kept_to_a_group(system);
}

fn trusted_users_are_asked_nothing(system: &System) {
    for user in ["root", "backupd"] {
        system.sh(&format!(
            "cd / && as='runuser -u {user} --'
            $as backupctl create shop
            $as backupctl list && $as backupctl show shop@latest && $as backupctl jobs
            $as backupctl verify shop@latest
            $as backupctl restore shop@latest --to copy_{user} --yes
            $as backupctl export shop@latest >/dev/null
            $as backupctl delete shop@latest --yes
            $as backupctl reload"
        ));
    }
}

/// Without a session of the seat, an administrator needs his password as well as anybody: `allow_any`.
fn others_must_authenticate(system: &System) {
    system.sh("backupctl create shop");
    let (jobs, backups) = (system.json("backupctl jobs --json=short"), system.backups());
    for user in [PLAIN, ADMIN] {
        for (interactive, why) in
            [("yes", "no authentication agent of the caller's answers"), ("no", "the call does not allow a question")]
        {
            let refusals = calls(system, &format!("runuser -u {user} --"), interactive);
            for ((call, action), said) in CALLS.iter().zip(&refusals) {
                let wanted = format!("needs authentication for org.backupd1.{action}, and {why}");
                assert!(said.starts_with("1 ") && said.contains(&wanted), "{user}: {call}: {said}");
            }
        }
    }
    // The names of the errors, which busctl does not show.
    let manager = "dbus-send --system --print-reply --dest=org.backupd1 /org/backupd1";
    let refused = system.try_sh(&format!("runuser -u {PLAIN} -- {manager} org.backupd1.Manager.Reload uint64:0"));
    refused.says(&["org.freedesktop.DBus.Error.InteractiveAuthorizationRequired"]);
    system.write(
        "/run/10-never.rules",
        &format!("polkit.addRule(function (action, subject) {{ if (subject.user === \"{PLAIN}\" && action.id === \"org.backupd1.reload\") return polkit.Result.NO; }});\n"),
    );
    system.sh("cp /run/10-never.rules /etc/polkit-1/rules.d/");
    system.wait_for(&format!(
        "! runuser -u {PLAIN} -- {manager} org.backupd1.Manager.Reload uint64:0 2>&1 | grep -q InteractiveAuthorizationRequired"
    ));
    let refused = system.try_sh(&format!("runuser -u {PLAIN} -- {manager} org.backupd1.Manager.Reload uint64:0"));
    refused.says(&["org.freedesktop.DBus.Error.AccessDenied", "polkit does not allow org.backupd1.reload"]);
    system.sh("rm /etc/polkit-1/rules.d/10-never.rules");
    // Everybody may read the version, and no more.
    let property = |name: &str| {
        let get = "busctl get-property org.backupd1 /org/backupd1 org.backupd1.Manager";
        system.try_sh(&format!("runuser -u {PLAIN} -- {get} {name}"))
    };
    property("Version").ok();
    property("RepositoryState").ok();
    assert!(!property("Backups").status.success());
    assert_eq!((system.json("backupctl jobs --json=short"), system.backups()), (jobs, backups));
}

fn a_session_at_the_seat_may_look(system: &System) {
    let active = format!("{} --setenv=XDG_SEAT=seat0 --", session(PLAIN));
    let looks =
        system.sh(&format!("{active} bash -c 'loginctl show-session self -p Active -p Seat && backupctl list'"));
    assert!(looks.contains("Active=yes") && looks.contains("Seat=seat0") && looks.contains("shop"), "{looks}");
    for ((call, action), said) in CALLS.iter().zip(calls(system, &active, "no")) {
        let wanted = format!("needs authentication for org.backupd1.{action}, and the call");
        let right = if *action == "inspect" { said.starts_with("0 ") } else { said.contains(&wanted) };
        assert!(right, "{call}: {said}");
    }
    // A session from elsewhere is none at the seat.
    let refused = system.try_sh(&format!("{} -- backupctl list", session(PLAIN)));
    assert_eq!(refused.status.code(), Some(77), "{refused}");
}

/// polkit's own agent, PAM and a terminal: the restore needs its own action, and following the job the action inspect.
fn a_password_on_the_terminal_is_an_answer(system: &System) {
    system.write("/run/typing.sh", TYPING);
    let restore = "backupctl restore shop@latest --to typed --yes";
    let exists = "cd / && runuser -u postgres -- psql -AtX -c \"SELECT 1 FROM pg_database WHERE datname = 'typed'\"";
    let wrong = system.try_sh(&format!("bash /run/typing.sh '{}' wrong 1 {restore}", session(PLAIN)));
    assert_eq!(wrong.status.code(), Some(77), "{wrong}");
    wrong.says(&["Authenticating as: adam", "AUTHENTICATION FAILED", "polkit does not allow org.backupd1.restore"]);
    assert_eq!(system.sh(exists), "");
    let right = system.try_sh(&format!("bash /run/typing.sh '{}' {PASSWORD} 2 {restore}", session(PLAIN))).ok();
    right.says(&["look at database backups", "to restore the backup", "AUTHENTICATION COMPLETE"]);
    assert!(!right.stderr.contains(PASSWORD), "it was echoed: {right}");
    assert_eq!(system.sh(exists), "1");
    // Without any session, as after su in a container, there is an answer, too.
    let service = format!("systemd-run --quiet --wait --pipe --collect --uid={PLAIN}");
    let kept = system.try_sh(&format!("bash /run/typing.sh '{service}' {PASSWORD} 1 backupctl list")).ok();
    kept.says(&["look at database backups", "AUTHENTICATION COMPLETE", "shop"]);
}

/// Answers each question for a password of a program on a terminal, in a unit that has its own session.
const TYPING: &str = r#"# Arguments: the beginning of systemd-run, the password, the number of questions, the program with its arguments.
set -eu
work=$(mktemp -d)
trap 'rm -r "$work"' EXIT
chmod 755 "$work"
mkfifo "$work/keys"
printf '#!/bin/sh\nexec %s\n' "${*:4}" >"$work/program"
# script(1) gives it a terminal. The shell above it is the parent of PAM's process, for whose end script(1) would wait.
printf '#!/bin/sh\nscript --quiet --return --flush --command %s /dev/null\nexit $?\n' "$work/program" >"$work/session"
chmod 755 "$work/program" "$work/session"
$1 -p RuntimeMaxSec=60 "$work/session" <"$work/keys" >"$work/screen" 2>&1 &
exec 3>"$work/keys"
for ((i = 1; i <= $3; i++)); do
    # What is typed too early is thrown away with the echo.
    timeout 30 bash -c "until [ \$(grep -c 'Password: ' '$work/screen') -ge $i ]; do sleep 0.05; done" || break
    printf '%s\n' "$2" >&3
done
exec 3>&-
status=0
wait $! || status=$?
cat "$work/screen" >&2
exit $status
"#;

fn operators_may_what_the_rule_says(system: &System) {
    system.sh("cp /usr/share/doc/backupd/examples/50-backup-operators.rules /etc/polkit-1/rules.d/
        sqlite3 /var/lib/backupd/other.db 'CREATE TABLE t (n)' && chown backupd: /var/lib/backupd/other.db
        printf 'type = \"sqlite\"\\npath = \"/var/lib/backupd/other.db\"\\n' >/etc/backupd/sources.d/other.toml
        systemctl reload backupd && backupctl create other");
    let operator = format!("cd / && runuser -u {OPERATOR} -- backupctl");
    // polkit notices the rule by itself.
    system.wait_for(&format!("{operator} list"));
    let allowed = ["create shop", "verify", "status", "restore shop@latest --to copied --yes"];
    system.sh(&allowed.map(|arguments| format!("{operator} {arguments}")).join("\n"));
    for (refused, action) in [
        ("restore other@latest --to /var/lib/backupd/copy.db --yes", "restore"),
        ("restore shop@latest --yes", "restore"),
        ("restore shop@latest --to copied --replace --yes", "restore"),
        ("delete shop@latest --yes", "delete"),
        ("export shop@latest", "export"),
        ("reload", "reload"),
    ] {
        let finished = system.try_sh(&format!("{operator} {refused}"));
        assert_eq!(finished.status.code(), Some(77), "{refused}: {finished}");
        finished.says(&[&format!("needs authentication for org.backupd1.{action}")]);
    }
    // Who is no member gets nothing by it.
    assert_eq!(system.try_sh(&format!("runuser -u {PLAIN} -- backupctl list")).status.code(), Some(77));
}

/// Its own job an operator may cancel even when it may no longer start one; another's it may as long as it may start such.
fn a_job_is_cancelled_by_who_started_it(system: &System) {
    system.hold_backups();
    let begin = |user: &str| system.sh(&format!("cd / && runuser -u {user} -- backupctl create --no-block shop"));
    let cancel = |number: &str| system.try_sh(&format!("cd / && runuser -u {OPERATOR} -- backupctl cancel {number}"));
    let own = begin(OPERATOR);
    system.sh(&format!("gpasswd -d {OPERATOR} backup-operators"));
    assert_eq!(system.try_sh(&format!("runuser -u {OPERATOR} -- backupctl list")).status.code(), Some(77));
    cancel(&own).ok();
    system.wait_for(&format!("backupctl jobs {own} --json=short | grep -q canceled"));
    let roots = begin("root");
    let refused = cancel(&roots);
    assert_eq!(refused.status.code(), Some(77), "{refused}");
    refused.says(&["CancelJob needs authentication for org.backupd1.create"]);
    system.sh(&format!("gpasswd -a {OPERATOR} backup-operators"));
    cancel(&roots).ok();
    system.wait_for(&format!("backupctl jobs {roots} --json=short | grep -q canceled"));
    system.let_backups_go_on();
}

fn the_journal_has_who_asked_for_what(system: &System) {
    let ids = system.sh(&format!("id -u {PLAIN}; id -u {ADMIN}; id -u {OPERATOR}"));
    let lines = system
        .sh("journalctl --sync && journalctl -u backupd _TRANSPORT=journal -o json --no-pager | grep BACKUPD_CALL");
    let lines: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let entries = |id: &str, user: &str| -> Vec<Value> {
        let uid =
            [PLAIN, ADMIN, OPERATOR].into_iter().zip(ids.lines()).find(|(name, _)| *name == user).expect("a user").1;
        let fits = |line: &&Value| line["MESSAGE_ID"] == id && line["BACKUPD_CALLER_UID"] == uid;
        lines.iter().filter(fits).cloned().collect()
    };
    let one = |entries: Vec<Value>, call: &str, error: Option<&str>| -> Value {
        let fits = |entry: &&Value| entry["BACKUPD_CALL"] == call && entry["BACKUPD_ERROR"].as_str() == error;
        entries.iter().find(fits).unwrap_or_else(|| panic!("no {call} with {error:?}: {entries:#?}")).clone()
    };
    let accepted = one(entries(message_id::CALL_ACCEPTED, OPERATOR), "RestoreBackup", None);
    assert_eq!(accepted["BACKUPD_POLKIT_ACTION"], "org.backupd1.restore");
    assert_eq!((&accepted["BACKUPD_SOURCE"], &accepted["BACKUPD_RESULT"]), (&"shop".into(), &"done".into()));
    assert!(accepted["BACKUPD_BACKUP"].as_str().is_some_and(|id| id.len() >= 32), "{accepted}");
    let required = Some("InteractiveAuthorizationRequired");
    let refused = one(entries(message_id::CALL_REFUSED, OPERATOR), "DeleteBackup", required);
    assert_eq!(refused["BACKUPD_POLKIT_ACTION"], "org.backupd1.delete");
    assert_eq!((&refused["BACKUPD_SOURCE"], &refused["BACKUPD_RESULT"]), (&"shop".into(), &"refused".into()));
    for entry in [&accepted, &refused] {
        let field = |name: &str| entry[name].as_str().unwrap_or_else(|| panic!("no {name}: {entry}"));
        assert!(field("BACKUPD_CALLER_PID").parse::<u32>().is_ok() && field("BACKUPD_CALLER_SENDER").starts_with(':'));
        assert!(field("BACKUPD_CALLER_UNIT").ends_with(".service"), "{entry}");
    }
    // In a session, its scope; a wrong password is a refusal as well.
    let typed = one(entries(message_id::CALL_ACCEPTED, PLAIN), "RestoreBackup", None);
    assert!(typed["BACKUPD_CALLER_UNIT"].as_str().is_some_and(|unit| unit.starts_with("session-")), "{typed}");
    assert_eq!(entries(message_id::CALL_ACCEPTED, ADMIN), Vec::<Value>::new());
}

/// Everybody hears signals, until the sample policy of the bus is there; who then hears none follows a job all the same.
fn signals_can_be_kept_to_a_group(system: &System) {
    assert_eq!(hears_the_end_of_a_job(system), [true, true]);
    system.sh("cp /usr/share/doc/backupd/examples/backupd-signals.conf /etc/dbus-1/system.d/
        busctl --system --quiet call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus ReloadConfig");
    assert_eq!(hears_the_end_of_a_job(system), [false, true]);
    // Not in the group of the bus, but in that of the rule.
    system.sh(&format!(
        "sed -i s/backup-operators/mail/ /etc/dbus-1/system.d/backupd-signals.conf
        busctl --system --quiet call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus ReloadConfig
        cd / && runuser -u {OPERATOR} -- backupctl create shop"
    ));
    assert_eq!(hears_the_end_of_a_job(system), [false, false]);
}

/// Whether a plain user and an operator hear the end of a job of root's.
fn hears_the_end_of_a_job(system: &System) -> [bool; 2] {
    let heard = system.sh(&format!("users='{PLAIN} {OPERATOR}'\n{LISTENING}"));
    let heard: Vec<bool> = heard.lines().map(|line| line != "0").collect();
    heard.try_into().expect("a line of each")
}

/// Prints for each user how many ends of jobs were heard. Each also hears who comes and goes on the bus, which tells when
/// listening has begun; and as the bus keeps the order, what comes after a job's end tells that the end would have come.
const LISTENING: &str = r#"
comings() { grep -c member=NameOwnerChanged /run/heard-$1 || true; }
hear_another() { # USER NUMBER
    for ((i = 0; i < 300; i++)); do
        busctl --quiet status org.backupd1 >/dev/null
        [ "$(comings $1)" -le $2 ] || return 0
        sleep 0.05
    done
    echo "$1 hears nothing" >&2
    return 1
}
for user in $users; do
    rm -f /run/heard-$user
    systemd-run --quiet --collect --unit=listen-$user --uid=$user -p StandardOutput=file:/run/heard-$user -p StandardError=null \
        dbus-monitor --system type=signal,sender=org.backupd1 type=signal,member=NameOwnerChanged
    hear_another $user 0
done
backupctl create --quiet shop >/dev/null
for user in $users; do
    hear_another $user $(comings $user)
    grep -c member=JobRemoved /run/heard-$user || true
    systemctl stop listen-$user
done
"#;

/// Makes the calls of [`CALLS`] in turn; gives a line of each: its status and what it said.
fn calls(system: &System, prefix: &str, interactive: &str) -> Vec<String> {
    let busctl = format!(
        "busctl --system --allow-interactive-authorization={interactive} call org.backupd1 /org/backupd1 org.backupd1.Manager"
    );
    let lines: String = CALLS
        .iter()
        .map(|(call, _)| {
            format!("status=0; said=$({busctl} {call} 2>&1 </dev/null) || status=$?; echo $status $said\n")
        })
        .collect();
    let said = system.sh(&format!("cd / && {prefix} bash -s <<'END'\n{lines}END"));
    let said: Vec<String> = said.lines().map(ToOwned::to_owned).collect();
    assert_eq!(said.len(), CALLS.len(), "{said:#?}");
    said
}

/// The beginning of a `systemd-run` whose unit is a session of a user, as one from another host would be.
fn session(user: &str) -> String {
    format!("systemd-run --quiet --wait --pipe --collect --uid={user} -p PAMName=login")
}
