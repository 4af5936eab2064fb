"""How each refinement looks, the same in every picture."""

from __future__ import annotations

from sharpseq.analyses import BLUE, GREEN

REFINEMENT_STYLES = {"delta": (BLUE, "X", "delta inference"), "learned": (GREEN, "o", "learned gradient")}
"""Colour, marker and name."""
