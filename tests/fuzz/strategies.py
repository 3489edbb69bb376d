"""Declarations made up by hypothesis: valid ones, and what is nearly one."""

from __future__ import annotations

from hypothesis import strategies as st

from shim.actions import (
    ExecAction,
    HttpGetAction,
    LifecycleHandler,
    OnFailure,
    Retry,
    RunAction,
    SleepAction,
    TcpSocketAction,
)
from shim.records import Hook
from tests.fuzz.mutation import FIELDS, SCALARS

words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
commands = st.builds(lambda first, rest: (first, *rest), words.filter(bool), st.lists(words, max_size=4))
hosts = st.sampled_from(["", "localhost", "10.1.2.3", "::1", "a_b.example."])
ports = st.integers(1, 65535) | st.from_regex(r"[a-z][a-z0-9]{0,14}", fullmatch=True)
header_names = st.text("!#$%&'*+-.^_`|~09azAZ", min_size=1).filter(lambda name: name.lower() != "host")
headers = st.lists(st.tuples(header_names, st.text(st.characters(exclude_categories=["Cs", "Cc"]))), max_size=4).map(
    tuple
)


def ranges(statuses: set[int]) -> tuple[tuple[int, int], ...]:
    """The canonical ranges of these."""
    firsts = sorted(status for status in statuses if status - 1 not in statuses)
    lasts = sorted(status for status in statuses if status + 1 not in statuses)
    return tuple(zip(firsts, lasts, strict=True))


whole = st.sampled_from([set(range(first, first + 100)) for first in range(200, 600, 100)])
expectations = st.lists(whole | st.integers(200, 599).map(lambda one: {one}), max_size=5).map(
    lambda parts: ranges(set().union(*parts))
)

execs = st.builds(ExecAction, commands)
gets = st.builds(
    HttpGetAction,
    port=ports,
    path=st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
    host=hosts,
    scheme=st.sampled_from(["HTTP", "HTTPS"]),
    headers=headers,
    expect_status=expectations,
)
urls = st.builds(
    HttpGetAction,
    headers=headers,
    expect_status=expectations,
    url=st.sampled_from(["http://a/", "HTTPS://a_b.example.:65535?x={}", "https://[::1]:8/%2e", "http://10.1.2.3"]),
)
sleeps = st.builds(SleepAction, st.integers(0, 604800))
sockets = st.builds(TcpSocketAction, ports, hosts)
actions = execs | gets | sleeps | sockets
trusted_actions = actions | urls | st.builds(RunAction, commands)


def seconds(most: float) -> st.SearchStrategy[float]:
    """Above 0."""
    return st.floats(0, most, exclude_min=True) | st.integers(1, int(most)).map(float)


def retries(attempts: st.SearchStrategy[int | None], least: float = 0.0) -> st.SearchStrategy[Retry]:
    """Valid ones; ``least`` is the least that the longest pause may be."""
    return st.builds(
        lambda tries, pauses: Retry(tries, pauses[0], max(*pauses, least)),
        attempts,
        st.tuples(seconds(3600), seconds(3600)),
    )


counted = st.just(Retry()) | retries(st.integers(1, 100))
endless = st.just(Retry(None)) | retries(st.none() | st.integers(1, 100), 1.0)
timeouts = st.none() | seconds(604800)

#: What each hook may have in an annotation.
declared: dict[Hook, st.SearchStrategy[LifecycleHandler]] = {
    Hook.POST_START: st.builds(LifecycleHandler, actions, timeouts, counted, st.sampled_from(OnFailure)),
    Hook.PRE_STOP: st.builds(LifecycleHandler, actions, timeouts, counted),
    # It knows no port names. One attempt is not its default, and is the record's: it is not written there.
    Hook.POST_STOP: st.builds(
        LifecycleHandler,
        gets.filter(lambda get: isinstance(get.port, int)),
        timeouts,
        endless.filter(lambda retry: retry != Retry()),
    ),
}
#: Whatever may be recorded.
handlers = st.builds(LifecycleHandler, trusted_actions, timeouts, counted | endless, st.sampled_from(OnFailure))

near_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(SCALARS),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS) | st.text(), inner, max_size=4),
    max_leaves=30,
)
