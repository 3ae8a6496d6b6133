"""Ports for one lab: a block that no other lab on this network has, free at this moment.

The reservation is an abstract Unix socket named after the block: it is in the same network namespace as the ports,
leaves no file, and the kernel drops it with the last process that holds it. Other programs do not know it: if a daemon
finds its port taken, `bringup` tries another block.
"""

from __future__ import annotations

import random
import socket

from .config import ADDRESS
from .errors import LabError

# Below the ports that Linux uses for outgoing connections (from 32768 on).
FIRST_PORT = 10240
LAST_PORT = 32767
# srun opens three ports plus two per 48 nodes (slurm.conf(5), SrunPortRange): room for 300 at once.
BLOCK = 1024
# Only the first ports of a block are tried: daemons listen on them.
TRIED = 8


class Reservation:
    """A block of ports, reserved while `socket` is open in any process."""

    def __init__(self, first_port: int, holder: socket.socket) -> None:
        self.first_port = first_port
        self.socket = holder


def reserve() -> Reservation:
    blocks = list(range(FIRST_PORT, LAST_PORT - BLOCK + 2, BLOCK))
    random.shuffle(blocks)
    for first_port in blocks:
        holder = _claim(first_port)
        if holder is not None:
            return Reservation(first_port, holder)
    raise LabError(f"all blocks of ports from {FIRST_PORT} to {LAST_PORT} are taken: end some labs")


def _claim(first_port: int) -> socket.socket | None:
    holder = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        holder.bind(f"\0torc-slurm-lab-ports-{first_port}")
    except OSError:
        holder.close()
        return None
    if all(_is_free(port) for port in range(first_port, first_port + TRIED)):
        return holder
    holder.close()
    return None


def host_name_is_loopback() -> bool:
    """Whether the host's name resolves to 127.0.0.1. Debian's usual 127.0.1.1 does not work: slurmd calls srun back at
    the address that its connection came from, which is 127.0.0.1 (seen on 22.05: srun waits forever).
    """
    try:
        return socket.gethostbyname(socket.gethostname()) == ADDRESS
    except OSError:
        return False


def _is_free(port: int) -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError:
            return False
    return True
