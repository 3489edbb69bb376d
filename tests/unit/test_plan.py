"""What a call makes due: the countdown's arithmetic, which decides between TERM and KILL."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim import plan
from shim.actions import Declared, ExecAction, LifecycleHandler
from shim.errors import DeclarationError
from shim.lifecycle import KEY
from shim.plan import GRACE_KEY, MAX_TIMEOUT, Settings
from shim.ports import Container, Pod
from shim.records import CONTAINER, KUBELET, POD, ContainerState, Hook
from shim.tools import NoRules
from tests.unit.records import REF


def container(annotations: dict[str, str] | None = None, pod: dict[str, str] | None = None) -> Container:
    """A running container with these annotations, in a pod with those."""
    sandbox = Pod("s1", "web", "default", "uid-1", pod or {}, (), host_network=False)
    return Container(REF, ContainerState.RUNNING, annotations or {}, sandbox)


@pytest.mark.parametrize(
    ("timeout", "elapsed", "left"),
    [
        (60, 55, 5),  # semantics.md's example
        (12, 9, 3),  # the same, scaled down
        (30, 0, 30),
        (30, 0.2, 30),
        (30, 0.999, 30),
        (30, 1, 29),
        (30, 27.9, 3),
        (30, 28, 2),
        (30, 29.5, 2),
        (30, 30, 2),
        (30, 1000, 2),
        (2, 1.5, 2),
        (1, 0, 1),
        (1, 5, 1),
        (0, 0, 0),
        (0, 20, 0),
    ],
)
def test_what_is_forwarded_is_what_the_hook_has_left(timeout: int, elapsed: float, left: int) -> None:
    """At least 2 s, or the timeout if that is less; whole seconds, rounded up; 0 stays 0."""
    assert plan.grace_left(timeout, max(0.0, timeout - elapsed)) == left


@given(st.integers(0, MAX_TIMEOUT), st.integers(0, 10**7))
def test_what_is_forwarded_is_the_formula_of_the_specification(timeout: int, milliseconds: int) -> None:
    """max(min(2, timeout), timeout - floor(elapsed))."""
    elapsed = milliseconds / 1000
    expected = max(min(2, timeout), timeout - math.floor(elapsed))
    assert plan.grace_left(timeout, max(0.0, timeout - elapsed)) == expected


def test_what_is_forwarded_is_never_more_than_was_asked_for() -> None:
    """A countdown that another caller's budget made longer adds nothing."""
    assert plan.grace_left(5, 30.0) == 5


@pytest.mark.parametrize(
    ("timeout", "meant"),
    [(-1, 0), (-(2**63), 0), (0, 0), (30, 30), (MAX_TIMEOUT, MAX_TIMEOUT), (2**63 - 1, MAX_TIMEOUT)],
)
def test_a_timeout_is_clamped_to_what_containerd_can_count(timeout: int, meant: int) -> None:
    """Negative is 0; above 9,000,000,000 s its nanoseconds would overflow and kill at once."""
    assert plan.clamp(timeout) == meant
    assert meant * 1_000_000_000 < 2**63


@pytest.mark.parametrize(
    ("own", "pod", "grace"),
    [
        ({}, {}, 7),
        ({GRACE_KEY: "45"}, {}, 45),
        ({}, {GRACE_KEY: "45"}, 45),
        ({GRACE_KEY: "45"}, {GRACE_KEY: "60"}, 45),
        ({GRACE_KEY: "0"}, {}, 0),
        ({GRACE_KEY: "9" * 30}, {}, MAX_TIMEOUT),
        ({GRACE_KEY: ""}, {}, 7),
        ({GRACE_KEY: "-5"}, {}, 7),
        ({GRACE_KEY: "1.5"}, {}, 7),
        ({GRACE_KEY: "٣"}, {}, 7),
        ({GRACE_KEY: "soon"}, {}, 7),
    ],
)
def test_the_grace_is_the_pods_or_the_nodes(own: dict[str, str], pod: dict[str, str], grace: int) -> None:
    """The kubelet's annotation; one that is no decimal number counts as not there."""
    assert plan.grace(container(own, pod), Settings(default_grace=7)) == grace


@pytest.mark.parametrize(
    ("timeout", "grace", "budget"), [(30, "60", 30), (1, "60", 1), (0, "60", 60), (0, "1", 2), (0, "0", 2)]
)
def test_timeout_0_has_a_budget_of_its_own(timeout: int, grace: str, budget: int) -> None:
    """The pod's grace, at least the minimum; every other timeout is its own budget."""
    assert plan.stop_budget(timeout, container({GRACE_KEY: grace}), Settings()) == budget


def test_the_hooks_are_the_containers_own_before_its_pods() -> None:
    """As shim.lifecycle merges them, with the pod that the runtime shows."""
    own = container({KEY: '{"preStop": {"exec": {"command": ["a"]}}}'}, {KEY: '{"*": {}}'})
    assert plan.hooks(own, NoRules(), Settings()) == (declared(Hook.PRE_STOP, "a", CONTAINER),)
    of_pod = container(pod={KEY: '{"main": {"postStart": {"exec": {"command": ["b"]}}}}'})
    assert plan.hooks(of_pod, NoRules(), Settings()) == (declared(Hook.POST_START, "b", POD),)


class _OneRule(NoRules):
    """A rule for every container."""

    def matching(self, _container: Container) -> tuple[Declared, ...]:
        """Its PreStop."""
        return (declared(Hook.PRE_STOP, "r", "rule drain"),)


def test_the_rules_hooks_run_before_the_pods_own_and_the_kubelets_before_them() -> None:
    """The kubelet runs its preStop before it stops a container at all."""
    kubelet = {plan.KUBELET_KEY: '{"exec":{"command":["k"]}}'}
    one = container(kubelet | {KEY: '{"preStop": {"exec": {"command": ["a"]}}}'})
    rule, own = declared(Hook.PRE_STOP, "r", "rule drain"), declared(Hook.PRE_STOP, "a", CONTAINER)
    assert plan.hooks(one, _OneRule(), Settings()) == (rule, own)
    ensured = plan.hooks(one, _OneRule(), Settings(ensure_kubelet=True))
    assert ensured == (declared(Hook.PRE_STOP, "k", KUBELET), rule, own)


@pytest.mark.parametrize(
    "text", ["", "{}", "[", '{"httpGet":{"port":80}}', '{"sleep":{"seconds":1}}', '{"exec":{"command":[]}}']
)
def test_a_kubelets_hook_that_does_not_pass_here_is_the_kubelets(text: str) -> None:
    """Of its handlers only exec comes by as a call; one that cannot be read stops nothing."""
    assert plan.kubelets(container({plan.KUBELET_KEY: text}), Settings(ensure_kubelet=True)) == ()


@pytest.mark.parametrize(
    ("own", "pod"),
    [
        ({KEY: '{"preStop": {"sleep": {"seconds": 46}}}'}, {}),
        ({}, {KEY: '{"*": {"postStart": {"sleep": {"seconds": 46}}}}'}),
    ],
)
def test_a_sleep_longer_than_the_grace_is_refused(own: dict[str, str], pod: dict[str, str]) -> None:
    """As Kubernetes' API server does; up to the grace it is not."""
    with pytest.raises(
        DeclarationError, match=r"sleep.seconds: expected at most the termination grace of 45 s, found 46"
    ):
        plan.check("main", own | {GRACE_KEY: "45"}, pod, Settings())
    plan.check("main", own | {GRACE_KEY: "46"}, pod, Settings())


def declared(hook: Hook, command: str, source: str) -> Declared:
    """An exec hook."""
    return Declared(hook, LifecycleHandler(ExecAction((command,))), source)
