"""All checks together, in the order in which a person would look: settings, sockets, state, node, others."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from server.config import ConfigError, Loaded
from server.doctor import kubelet, others, sockets, state
from server.doctor.finding import DEADLINE, Check, Finding, ok, problem, run
from server.doctor.host import Host


def examine(load: Callable[[], Loaded], host: Host, deadline: float = DEADLINE) -> list[Finding]:
    """Every finding; without settings that can be read there is nothing else to look at. Raises nothing."""
    try:
        loaded = load()
    except ConfigError as error:
        advice = "mend it; hookshim check-config shows every setting with its source"
        return [problem("configuration", text, advice) for text in error.problems]
    config = loaded.config
    state_dir = config.state_dir
    checks: list[tuple[str, Check]] = [
        ("containerd", partial(sockets.containerd, config)),
        ("socket", partial(sockets.own, config, host)),
        ("admin socket", partial(sockets.admin, config)),
        ("state directory", partial(state.directory, state_dir)),
        ("disk space", partial(state.space, state_dir)),
        ("journal", partial(state.journal, state_dir)),
        ("set-aside journals", partial(state.aside, state_dir)),
        ("deliveries", partial(state.oldest, state_dir, host)),
        ("clock", partial(state.clock, state_dir, host)),
        ("rules", partial(kubelet.rules, config)),
        ("kubelet", partial(kubelet.kubelet, config, host)),
        ("kubeconfig", partial(others.kubeconfig, config)),
        ("http", partial(others.http_listener, config)),
    ]
    given = sum(source != "default" for source in loaded.sources.values())
    text = f"it can be used; {given} of {len(loaded.sources)} settings are not the default"
    return [ok("configuration", text), *run(checks, deadline)]
