"""Start this many children, keep all of them alive for a second, and exit."""

import os
import signal
import sys
import time

children = []
for _ in range(int(sys.argv[1])):
    child = os.fork()
    if child == 0:
        signal.pause()
    children.append(child)
time.sleep(1.0)
for child in children:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
