"""Decides. Pure: no I/O, no clock, no logging, no randomness; the same input gives the same bytes in every process."""
