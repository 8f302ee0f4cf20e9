"""Cells evaluated over stored states."""
