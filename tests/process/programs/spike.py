"""Wait, allocate this many megabytes for a moment, free them, wait.

usage: spike.py MEGABYTES WAIT_SECONDS HOLD_SECONDS [orphan]

``orphan``: a re-parented process does it.
"""

import os
import sys
import time

megabytes, wait, hold = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
orphan = sys.argv[4:] == ["orphan"]


def spike() -> None:
    time.sleep(wait)
    memory = b"x" * (megabytes << 20)
    time.sleep(hold)
    del memory
    time.sleep(0.1)


if orphan:
    reader, writer = os.pipe()
    if os.fork() == 0:
        if os.fork() == 0:
            spike()
        os._exit(0)
    os.close(writer)
    os.read(reader, 1)
    time.sleep(0.1)
else:
    spike()
