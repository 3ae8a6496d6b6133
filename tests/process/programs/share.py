"""Allocate memory, fork children that share it and, if requested, make each write to all of its pages.

usage: share.py MEGABYTES CHILDREN SECONDS [write]

The children live for that time, and with ``write`` as long again with their own pages.
"""

import os
import sys
import time

megabytes, count, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
memory = bytearray(megabytes << 20)
for offset in range(0, len(memory), 4096):
    memory[offset] = 120
children = []
for _ in range(count):
    pid = os.fork()
    if pid == 0:
        time.sleep(seconds)
        if sys.argv[4:] == ["write"]:
            for offset in range(0, len(memory), 4096):
                memory[offset] = 121
            time.sleep(seconds)
        os._exit(0)
    children.append(pid)
for pid in children:
    os.waitpid(pid, 0)
