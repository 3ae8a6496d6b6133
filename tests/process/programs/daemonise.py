"""Start a daemon that leaves its parents: double fork and setsid; it uses memory and CPU.

usage: daemonise.py MEGABYTES CPU_SECONDS HOLD_SECONDS outlived | outliving

``outlived``: this process waits until the daemon has exited; ``outliving``: only until it has used memory and CPU, and
the daemon stays until it is killed; its pid is printed.
"""

import os
import signal
import sys
import time

megabytes, seconds, hold, how = int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]), sys.argv[4]
reader, writer = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.close(reader)
        print(os.getpid(), flush=True)
        os.close(1)
        os.close(2)  # a reader of this process's output must not wait for the daemon
        memory = b"x" * (megabytes << 20)
        begin = time.process_time()
        while time.process_time() - begin < seconds:
            pass
        time.sleep(hold)
        if how == "outliving":
            os.write(writer, b"done")
            signal.pause()
    os._exit(0)
os.close(writer)
os.read(reader, 4)
