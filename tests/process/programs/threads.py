"""Run this many additional threads for this many seconds."""

import sys
import threading
import time

for _ in range(int(sys.argv[1])):
    threading.Thread(target=time.sleep, args=(float(sys.argv[2]),)).start()
