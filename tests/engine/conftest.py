"""Has pytest show what a broken promise was about."""

import pytest

pytest.register_assert_rewrite("tests.engine.promises")
