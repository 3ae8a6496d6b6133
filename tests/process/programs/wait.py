"""Print ``ready`` and the pid, and wait for a signal; two arguments: the exit status for a signal's number.

Unlike a shell it starts no process while a signal may come, so a terminal's signal reaches only this process.
"""

import os
import signal
import sys

signal.signal(signal.SIGINT, signal.SIG_DFL)
if len(sys.argv) > 1:
    signal.signal(int(sys.argv[1]), lambda *_: os._exit(int(sys.argv[2])))
print("ready", os.getpid(), flush=True)
while True:
    signal.pause()
