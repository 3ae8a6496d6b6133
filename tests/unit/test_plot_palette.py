"""Colours stand out from their background, and from one another, also for colour-blind readers."""

from __future__ import annotations

import math
from itertools import combinations

import pytest

from torc_slurm.plots.palette import SERIES, STATUS, THEMES, colour, dash

Colour = tuple[float, float, float]

# Machado, Oliveira, Fernandes 2009, severity 1, on linear RGB
_BLINDNESS = {
    "none": ((1, 0, 0), (0, 1, 0), (0, 0, 1)),
    "protan": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
    "deutan": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
}


def linear(hexadecimal: str) -> Colour:
    parts = [int(hexadecimal[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return red, green, blue


def luminance(hexadecimal: str) -> float:
    red, green, blue = linear(hexadecimal)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def contrast(one: str, other: str) -> float:
    """WCAG 2's ratio, 1 to 21."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def lab(colour: Colour) -> Colour:
    """CIE L*a*b* under D65."""
    red, green, blue = (min(1.0, max(0.0, part)) for part in colour)
    x = (0.4124 * red + 0.3576 * green + 0.1805 * blue) / 0.9505
    y = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    z = (0.0193 * red + 0.1192 * green + 0.9505 * blue) / 1.089
    fx, fy, fz = (part ** (1 / 3) if part > 0.008856 else 7.787 * part + 16 / 116 for part in (x, y, z))
    return 116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)


def distance(one: str, other: str, blindness: str) -> float:
    seen = []
    for hexadecimal in (one, other):
        red, green, blue = linear(hexadecimal)
        rows = _BLINDNESS[blindness]
        mixed = [row[0] * red + row[1] * green + row[2] * blue for row in rows]
        seen.append(lab((mixed[0], mixed[1], mixed[2])))
    return math.dist(*seen)


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("blindness", _BLINDNESS)
def test_series_are_distinguishable(theme: str, blindness: str) -> None:
    close = {
        (one, other): round(distance(THEMES[theme][one], THEMES[theme][other], blindness), 1)
        for one, other in combinations(SERIES, 2)
    }
    assert min(close.values()) >= 18, sorted(close.items(), key=lambda item: item[1])[:3]


@pytest.mark.parametrize("theme", THEMES)
def test_everything_stands_out_from_its_background(theme: str) -> None:
    colours = THEMES[theme]
    for name in (*SERIES, "killed", "request", "muted"):
        assert contrast(colours[name], colours["background"]) >= 3, name
    for name in ("text", "muted", "killed"):
        assert contrast(colours[name], colours["background"]) >= 4.5, name


def test_states_differ_by_colour_or_pattern() -> None:
    assert len(set(STATUS.values())) == len(STATUS)


def test_lines_beyond_the_colours_have_another_dash() -> None:
    looks = {(colour(number), dash(number)) for number in range(24)}
    assert len(looks) == 24
