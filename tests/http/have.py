"""Programs of others that tests need: a skip where they cannot be had, a failure with CI set."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

from tests.real.debian import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def or_skip() -> Iterator[None]:
    try:
        yield
    except UnavailableError as reason:
        if os.environ.get("CI"):
            pytest.fail(f"CI is set, so this may not be skipped: {reason}", pytrace=False)
        pytest.skip(str(reason))
