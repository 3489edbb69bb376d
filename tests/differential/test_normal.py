"""The comparison itself sees what matters, and only that."""

from __future__ import annotations

import pytest

from tests.differential.normal import canonical
from tests.differential.ways import field

ID = "0123456789abcdef" * 4


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(field(1, ID), field(1, ID[::-1]), id="ids"),
        pytest.param(field(1, 1_700_000_000_000_000_000), field(1, 1_800_000_000_000_000_000), id="times"),
        pytest.param(field(5, "a") + field(5, "b"), field(5, "b") + field(5, "a"), id="the order of maps"),
        pytest.param(field(5, field(1, "10.1.2.9")), field(5, field(1, "10.1.2.10")), id="addresses"),
        pytest.param(
            field(1, "http://127.0.0.1:41/exec/b0Kg-_9x"), field(1, "http://127.0.0.1:41/exec/AAAAAAAA"), id="tokens"
        ),
    ],
)
def test_what_differs_each_time_is_the_same(one: bytes, other: bytes) -> None:
    """Ids, times, addresses, tokens and the order of maps do not count."""
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(field(1, ID), field(2, ID), id="another field"),
        pytest.param(field(1, ID) + field(536870911, "x"), field(1, ID), id="an unknown field is lost"),
        pytest.param(field(4, field(2, 3)), field(4, field(2, 4)), id="another number inside"),
        pytest.param(field(5, "a") + field(5, "a"), field(5, "a"), id="a repetition is lost"),
        pytest.param(field(1, b"\xff\xfe"), field(1, b"\xff\xff"), id="other bytes"),
        pytest.param(b"\xff", b"\xfe", id="no protobuf"),
        pytest.param(b"", field(1, 0), id="a default is written"),
    ],
)
def test_what_matters_differs(one: bytes, other: bytes) -> None:
    """A field, a value or a repetition more or less is a difference."""
    assert canonical(one) != canonical(other)


def test_without_numbers_only_the_fields_count() -> None:
    """Statistics are compared by what they hold, not by how much of it."""
    one = field(1, field(2, 5)) + field(3, field(1, ID)) + field(3, field(1, ID))
    other = field(1, field(2, 6)) + field(3, field(1, ID))
    assert canonical(one, numbers=False) == canonical(other, numbers=False)
    assert canonical(one, numbers=False) != canonical(field(1, field(2, 6)), numbers=False)
