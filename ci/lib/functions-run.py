"""Writes which functions a program runs, in the order of their first calls; for gdb (`gdb -x`).

A breakpoint that goes away when it is hit lies on every function. FUNCTIONS_TO is the file that their names are appended to.
"""

import os
import subprocess

import gdb

names = {}
# As the linker's script reads them.
command = ["nm", "-pC", "--defined-only", gdb.current_progspace().filename]
listing = subprocess.run(command, capture_output=True, text=True, check=True)
for line in listing.stdout.splitlines():
    address, kind, name = line.split(maxsplit=2)
    if kind in "tTwWi":
        names.setdefault(int(address, 16), []).append(name)

out = open(os.environ["FUNCTIONS_TO"], "a")
# A child that starts another program is let go.
for setting in ("pagination off", "confirm off", "follow-fork-mode parent", "detach-on-fork on"):
    gdb.execute("set " + setting)
gdb.execute("starti " + os.environ["FUNCTIONS_OF"] + " >/dev/null", to_string=True)
for address in names:
    gdb.Breakpoint(f"*{address:#x}", internal=True, temporary=True).silent = True
while True:
    try:
        gdb.execute("continue", to_string=True)
        here = int(gdb.parse_and_eval("$pc"))
    except gdb.error:
        break
    out.write("".join(name + "\n" for name in names.get(here, [])))
