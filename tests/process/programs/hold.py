"""Hold this many megabytes for this many seconds."""

import sys
import time

memory = b"x" * (int(sys.argv[1]) << 20)
time.sleep(float(sys.argv[2]))
