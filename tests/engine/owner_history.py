"""What the node's owner does in a history: he asks for single deliveries again, and takes others back."""

from __future__ import annotations

from dataclasses import dataclass

from shim.records import Delivery, DeliveryState, Hook
from tests.engine.history import OnContainer
from tests.engine.sim_containerd import SimContainer
from tests.engine.simulation import World


@dataclass(frozen=True, slots=True)
class OnDelivery(OnContainer):
    """Something that the node's owner asks of one of its deliveries: one that it is sensible for, if there is any."""

    which: int

    def to(self, world: World, container: SimContainer) -> None:
        """To one of this one's."""
        deliveries = world.store.deliveries_of(container.ref.id)
        wanted = [one for one in deliveries if self.sensible(one)] or deliveries
        if wanted:
            self.ask(world, container, wanted[self.which % len(wanted)])

    def sensible(self, delivery: Delivery) -> bool:
        """Whether it is not sure to be refused."""
        raise NotImplementedError

    def ask(self, world: World, container: SimContainer, delivery: Delivery) -> None:
        """Of this one."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Retry(OnDelivery):
    """To send it again, or now."""

    def sensible(self, delivery: Delivery) -> bool:
        """One that has failed and has not come too late, or waits for its next attempt."""
        failed = delivery.state is DeliveryState.FAILED and delivery.hook is not Hook.PRE_STOP
        return failed or (delivery.state is DeliveryState.PENDING and delivery.next_attempt_at is not None)

    def ask(self, world: World, container: SimContainer, delivery: Delivery) -> None:
        """Of this one."""
        world.retry(container, delivery.id)


@dataclass(frozen=True, slots=True)
class Skip(OnDelivery):
    """To take it back."""

    def sensible(self, delivery: Delivery) -> bool:
        """One that is open."""
        return delivery.state.open

    def ask(self, world: World, container: SimContainer, delivery: Delivery) -> None:
        """Of this one."""
        world.skip(container, delivery.id)
