"""The answers of the API: one type for each, with the meaning and unit of every field.

Handlers build them, ``web.envelope`` writes them, the page renders them, the commands read them, and ``web.openapi`` makes
the document from them. Nothing else is imported here than msgspec, so that commands start fast.

A field is always there; null where its text says so. Who reads an answer ignores fields that it does not know.
"""
