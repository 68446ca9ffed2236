"""Limits of one list, whatever it is listed by."""

TARGETS_MAX = 5_000_000
ADDRESS_MAX = 8192
LABELS_MAX = 1024
LABEL_NAME_MAX = 512
"""vmagent reads a slice as YAML, where a key may have 1024 characters."""
LABEL_VALUE_MAX = 256 * 1024
"""As long as all annotations of a Kubernetes object may be together."""
EXPANDED_MAX = 2 * 1024**3
EXPANDED_LEAST = 64 * 1024**2
EXPANDED_TIMES = 40
"""Characters of all labels, repeated for each target of their group: at most so many times the list's own length, else a
small list becomes the square of its size; always ``EXPANDED_LEAST``, never ``EXPANDED_MAX``."""
