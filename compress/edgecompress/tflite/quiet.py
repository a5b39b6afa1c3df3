"""Keeps native libraries from writing to the terminal; models are quiet by the same means."""

from __future__ import annotations

from edgecompress.quiet import quiet

__all__ = ["quiet"]
