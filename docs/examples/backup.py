#!/usr/bin/python3
"""Takes a backup of a source with backupd, follows it, and lists the backups of the source: backup.py SOURCE

On the system bus, or without a message bus where $BACKUPD_ADDRESS names the socket of `backupd --listen`.
Needs Debian's python3-gi. Ends with 0 where the backup was taken."""
import os, sys
from gi.repository import Gio, GLib

PATH, MANAGER, JOB = "/org/backupd1", "org.backupd1.Manager", "org.backupd1.Job"
loop, outcome = GLib.MainLoop(), []

def connect():
    if address := os.environ.get("BACKUPD_ADDRESS"):  # Peer to peer there are no names.
        client = Gio.DBusConnectionFlags.AUTHENTICATION_CLIENT
        return Gio.DBusConnection.new_for_address_sync(address, client, None, None), None
    return Gio.bus_get_sync(Gio.BusType.SYSTEM, None), "org.backupd1"

def call(method, signature, *arguments):
    return bus.call_sync(name, PATH, MANAGER, method, GLib.Variant(signature, arguments), None, 0, -1, None).unpack()

def changed(_bus, _sender, path, _interface, _signal, parameters):
    if path == job and (phase := parameters.unpack()[1].get("Phase")):
        print("phase:", phase, flush=True)

def finished(_bus, _sender, path, _interface, _signal, parameters):
    if path == job:
        outcome.extend(parameters.unpack())  # result, name of the error, its message, statistics
        loop.quit()

try:
    bus, name = connect()
    # Subscribed before the call, so that nothing is missed; the loop, which runs later, hands the signals out.
    bus.signal_subscribe(name, "org.freedesktop.DBus.Properties", "PropertiesChanged", None, JOB, 0, changed)
    bus.signal_subscribe(name, JOB, "Finished", None, None, 0, finished)
    bus.connect("closed", lambda *_: loop.quit())
    number, job = call("CreateBackup", "(sa{sv}t)", sys.argv[1], {"tags": GLib.Variant("as", ["python"])}, 0)
    loop.run()
    if outcome[:1] != ["done"]:
        sys.exit(f"job {number}: " + (" ".join(outcome[:3]) or "the daemon went away"))
    print(f"job {number}: done, {outcome[3]}")
    for backup in call("ListBackups", "(a{sv}tst)", {"source": GLib.Variant("s", sys.argv[1])}, 10, "", 0)[0]:
        print(f"{backup[0]}  {backup[8]} bytes, {backup[11]} rows, {backup[12]}, tags: {' '.join(backup[17])}")
except GLib.Error as error:
    sys.exit(f"{Gio.DBusError.get_remote_error(error)}: {error.message}")
