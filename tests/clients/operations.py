"""Restores shop@latest as from_python, exports it to the file that is named and by a descriptor that it is given."""
import sys
from gi.repository import Gio, GLib

NAME, PATH = "org.backupd1", "/org/backupd1"
bus = Gio.bus_get_sync(Gio.BusType.SYSTEM, None)
finished, loop = {}, GLib.MainLoop()


def on_finished(_bus, _sender, path, _interface, _signal, parameters):
    finished[path] = parameters.unpack()
    loop.quit()


def follow(method, arguments, descriptors=None):
    """Gives what is read from the descriptor in the answer, if there is one, once the job is done."""
    answer, received = bus.call_with_unix_fd_list_sync(
        NAME, PATH, NAME + ".Manager", method, arguments, None, 0, -1, descriptors, None)
    job, *handles = answer.unpack()[1:]
    content = None
    for handle in handles:
        with open(received.get(handle), "rb") as output:
            content = output.read()
    while job not in finished:
        loop.run()
    assert finished[job][0] == "done", finished[job]
    return content


bus.signal_subscribe(NAME, NAME + ".Job", "Finished", None, None, 0, on_finished)
follow("RestoreBackup", GLib.Variant("(sa{sv}t)", ("shop@latest", {"to": GLib.Variant("s", "from_python")}, 0)))
with open(sys.argv[1], "wb") as output:
    descriptors = Gio.UnixFDList.new()
    handle = descriptors.append(output.fileno())
    follow("ExportBackup", GLib.Variant("(sha{sv}t)", ("shop@latest", handle, {}, 0)), descriptors)
with open(sys.argv[1], "rb") as output:
    opened = follow("OpenBackup", GLib.Variant("(sa{sv}t)", ("shop@latest", {}, 0)))
    assert opened == output.read(), "OpenBackup gives something else than ExportBackup"
