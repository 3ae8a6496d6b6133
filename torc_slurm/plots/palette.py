"""Colours that colour-blind readers can distinguish, on a light and on a dark page.

Figures name a colour by its role, ``@0`` or ``@request``, with an opacity after a slash (``@0/0.2``); the page's script
inserts the colour of the theme. The colours start from those of Okabe and Ito (https://jfly.uni-koeln.de/color/),
darkened or lightened until each stands out from its background. A test checks their distance for colour-blind eyes.
"""

from __future__ import annotations

from torc_slurm.records.statuses import CANCELLED, COMPLETED, FAILED, NODE_FAIL, OOM, PREEMPTED, RUNNING, TIMEOUT

LIGHT = {
    "background": "#ffffff",
    "text": "#1b1f24",
    "muted": "#6a737d",
    "grid": "#e3e7ec",
    "request": "#1b1f24",
    "limit": "#6a737d",
    "killed": "#b3261e",
    "0": "#0072b2",
    "1": "#d55e00",
    "2": "#008a63",
    "3": "#8e2a6d",
    "4": "#6b4e00",
    "5": "#3c2a78",
}
DARK = {
    "background": "#12161c",
    "text": "#e8ecf1",
    "muted": "#97a1ad",
    "grid": "#2a313b",
    "request": "#e8ecf1",
    "limit": "#97a1ad",
    "killed": "#ff8a80",
    "0": "#56b4e9",
    "1": "#ff9248",
    "2": "#1fc997",
    "3": "#ffc4e1",
    "4": "#f0e442",
    "5": "#8f7bff",
}
SERIES = ("0", "1", "2", "3", "4", "5")
DASHES = ("solid", "dash", "dot", "dashdot")
THEMES = {"light": LIGHT, "dark": DARK}

# colour and pattern of each state, so that they differ in a grey print too
STATUS = {
    COMPLETED: ("@0", ""),
    RUNNING: ("@2", ""),
    FAILED: ("@1", "/"),
    OOM: ("@3", "x"),
    TIMEOUT: ("@4", "-"),
    CANCELLED: ("@muted", "."),
    NODE_FAIL: ("@5", "|"),
    PREEMPTED: ("@5", "\\"),
}
UNKNOWN_STATUS = ("@muted", "")


def colour(number: int) -> str:
    """The role of the n-th series' colour."""
    return f"@{SERIES[number % len(SERIES)]}"


def dash(number: int) -> str:
    """The n-th series' line: each further cycle through the colours has its own dash."""
    return DASHES[number // len(SERIES) % len(DASHES)]
