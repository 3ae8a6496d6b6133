"""Foreign text on a terminal: quoted where all of it is, in `torc_slurm.text`."""

from torc_slurm.text import printable

__all__ = ["printable"]
