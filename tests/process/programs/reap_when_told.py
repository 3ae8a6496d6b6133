"""Start a child that uses CPU time and then sleeps; reap it when standard input can be read, and sleep on.

usage: reap_when_told.py CPU_SECONDS; prints the child's pid, and ``reaped``. SIGUSR1 makes either of them run briefly.
"""

import os
import signal
import sys
import time

signal.signal(signal.SIGUSR1, lambda *_: None)
child = os.fork()
if child == 0:
    while time.process_time() < float(sys.argv[1]):
        pass
    print(os.getpid(), flush=True)
    while True:
        signal.pause()
os.read(0, 1)
os.waitpid(child, 0)
print("reaped", flush=True)
signal.pause()
