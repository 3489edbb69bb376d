"""Who wrote a declaration, and so how strictly it is read.

The node's owner may declare more than a pod's author, what was accepted once has to be read back from the journal
however the bounds have changed since, and a newer kubelet may say more than is known here.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto

from shim.strictjson import Place, array, fields, members


class Author(Enum):
    """Somebody who may create pods, the node's owner, hookshim itself, or a kubelet."""

    ANNOTATION = auto()
    RULE = auto()
    JOURNAL = auto()
    KUBELET = auto()

    @property
    def trusted(self) -> bool:
        """Whether it may use what reaches further than the pod."""
        return self in (Author.RULE, Author.JOURNAL)

    @property
    def bounded(self) -> bool:
        """Whether counts and durations have to be within their bounds."""
        return self in (Author.ANNOTATION, Author.RULE)

    def fields(
        self, place: Place, value: object, allowed: tuple[str, ...], refused: Mapping[str, str] | None = None
    ) -> dict[str, object]:
        """An object's members, as ``strictjson.fields``. Raises DeclarationError."""
        if self is Author.KUBELET:
            # What is new in a newer kubelet's JSON is optional, by Kubernetes' own rules.
            return {name: one for name, one in members(place, value).items() if name in allowed}
        return fields(place, value, allowed, refused)

    def array(self, place: Place, value: object, of: str, most: int) -> list[object]:
        """An array's elements, as ``strictjson.array``. Raises DeclarationError."""
        items = array(place, value, of)
        if self.bounded and len(items) > most:
            raise place.error(f"at most {most} {of}", str(len(items)))
        return items

    def integer(self, place: Place, value: object, least: int, most: int, what: str = "an integer") -> int:
        """An integer. Raises DeclarationError."""
        wrong = place.unexpected(f"{what} from {least} to {most}", value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong
        if value < least or (self.bounded and value > most):
            raise wrong
        return value

    def seconds(self, place: Place, value: object, most: int, least: float = 0.0) -> float:
        """A number of seconds above 0. Raises DeclarationError."""
        wrong = place.unexpected(f"a number of seconds {f'from {least:g}' if least else 'above 0'} to {most}", value)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong
        # What is not a number at all is not above 0 either.
        if not 0 < value < _INFINITE or value < least or (self.bounded and value > most):
            raise wrong
        return float(value)


# The least integer that float() refuses is below infinity, and far above this.
_INFINITE = 1e300
