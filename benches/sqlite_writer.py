"""Writes small transactions into the database of the SQLite figures until standard input closes, then prints the longest of
them, the 99th percentile (both in milliseconds), and their number."""

import random
import select
import sqlite3
import sys
import time

connection = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=60)
connection.execute("PRAGMA synchronous = NORMAL")
orders = connection.execute("SELECT max(id) FROM orders").fetchone()[0]
print("ready", flush=True)
taken = []
while not select.select([sys.stdin], [], [], 0.002)[0]:
    begin = time.monotonic()
    connection.execute("BEGIN IMMEDIATE")
    connection.execute("INSERT INTO event(at, what) VALUES (?, hex(randomblob(50)))", (begin,))
    connection.execute("UPDATE orders SET amount = -amount WHERE id = ?", (random.randint(1, orders),))
    connection.execute("COMMIT")
    taken.append((time.monotonic() - begin) * 1000)
taken.sort()
print(f"{taken[-1]:.1f} {taken[len(taken) * 99 // 100]:.1f} {len(taken)}")
