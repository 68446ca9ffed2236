"""Settings of every test."""

from __future__ import annotations

import os

from hypothesis import settings

pytest_plugins = ["tests.rows", "tests.room", "tests.order", "tests.leaks"]

# No deadline: a slow machine is not a failure. Derandomized in CI, so that a red build is red again; failing examples
# are printed with their seed everywhere.
settings.register_profile("ci", deadline=None, derandomize=True, print_blob=True, max_examples=100)
settings.register_profile("local", deadline=None, print_blob=True, max_examples=100)
settings.load_profile("ci" if os.environ.get("CI") else "local")
