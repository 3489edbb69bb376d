"""One delivery by the beginning of its id, with what it belongs to, as the engine needs it to change it."""

from __future__ import annotations

from shim.errors import AskedWronglyError, UnknownDeliveryError
from shim.records import Found
from shim.rows import to_delivery, to_operation
from shim.store import Store, statements
from shim.strictjson import printable

_SQL = statements("lookup.sql")

#: Of what was typed, so much is told again.
_LIMIT = 64


def find(store: Store, key: str) -> Found:
    """The delivery with the id ``key``, or the only one whose id begins so.

    Raises UnknownDeliveryError and AskedWronglyError, and what ``Store.rows`` raises.
    """
    rows = store.rows(_SQL["deliveries_that_begin"], {"key": key})
    if not rows or not key:
        raise UnknownDeliveryError(f"there is no delivery {printable(key, _LIMIT)}; `hookshim deliveries` lists them")
    if len(rows) > 1 and rows[0]["id"] != key:
        raise AskedWronglyError(f"more than one delivery begins with {printable(key, _LIMIT)}: type more of its id")
    delivery = to_delivery(rows[0])
    [row] = store.rows(_SQL["operation"], {"id": delivery.operation_id})
    others = store.rows(_SQL["deliveries_of_operation"], {"id": delivery.operation_id})
    return Found(delivery, to_operation(row), tuple(to_delivery(other) for other in others))
