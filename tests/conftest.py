"""Settings for the whole suite."""

from __future__ import annotations

import pytest
from hypothesis import settings

pytest.register_assert_rewrite("support")

# The same examples on every run: what fails once fails again.
settings.register_profile("deterministic", derandomize=True, deadline=None, database=None, max_examples=200)
settings.load_profile("deterministic")
