"""Make a child hand its own child over to this process, a subreaper that sleeps meanwhile.

The child forks when it can read from standard input, and exits; this process waits for it only if the argument says so
(``wait``: then it runs), ignores SIGCHLD (``ignore``), or leaves a zombie (``leave``).
"""

import ctypes
import os
import signal
import sys

how = sys.argv[1]
ctypes.CDLL(None).prctl(36, 1)  # PR_SET_CHILD_SUBREAPER
if how == "ignore":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
child = os.fork()
if child == 0:
    print("ready", flush=True)
    os.read(0, 1)
    if os.fork() == 0:
        print(os.getpid(), flush=True)
        signal.pause()
    os._exit(0)
if how == "wait":
    os.waitpid(child, 0)
signal.pause()
