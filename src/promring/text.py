"""Texts from outside, made fit for every output: JSON, plain text, metrics, page, log.

Names of files and decoded queries may hold lone surrogates, which no output can encode. ``clean`` writes them as escapes.
"""

from __future__ import annotations


def clean(text: str) -> str:
    """The text in which each lone surrogate is written as its escape. Any ``str`` in, always valid UTF-8 out."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace").decode()
    return text


def clean_all(data: object) -> object:
    """``clean`` for every text in plain values: the keys and values of dicts, lists and tuples."""
    if isinstance(data, str):
        return clean(data)
    if isinstance(data, dict):
        return {clean_all(key): clean_all(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [clean_all(value) for value in data]
    return data
