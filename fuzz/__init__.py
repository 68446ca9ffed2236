"""Fuzzing of every parser of bytes that another program wrote: ``parsers`` is the table, ``__main__`` runs it."""
