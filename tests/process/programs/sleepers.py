"""Start this many children, keep them alive for a second (with a second argument: until stdin ends), and exit."""

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
if len(sys.argv) > 2:
    sys.stdin.read()
else:
    time.sleep(1.0)
for child in children:
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
