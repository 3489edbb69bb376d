"""Containers for rules to match, and rules' files with the modes that they have on a node."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from shim.ports import Container, Pod
from shim.records import ContainerRef, ContainerState

#: A whole rule; ``{word}`` tells one from another.
RULE = """\
when = ["preStop"]
[[handlers]]
run = {{ command = ["/bin/{word}"] }}
"""


def container(**fields: Any) -> Container:
    """A container of the pod web in namespace prod; ``fields`` replace those of the container or of its pod."""
    name = fields.pop("name", "app")
    image = fields.pop("image", "docker.io/library/nginx:1.27")
    annotations: Mapping[str, str] = fields.pop("annotations", {})
    pod_annotations: Mapping[str, str] = fields.pop("pod_annotations", {})
    pod: dict[str, Any] = {"namespace": "prod", "labels": {}, "runtime_handler": ""} | fields
    made = Pod("s1", "web", uid="uid-1", annotations=dict(pod_annotations), ips=(), host_network=False, **pod)
    ref = ContainerRef("c1", "s1", name, "web", made.namespace, "uid-1")
    return Container(ref, ContainerState.RUNNING, dict(annotations), made, image)


def hooks_directory(parent: Path, **words: str) -> Path:
    """A directory ``hooks.d`` with a rule in each file: by its name without ``.toml``, the word of its command."""
    directory = parent / "hooks.d"
    directory.mkdir(mode=0o755)
    for name, word in words.items():
        put(directory / f"{name}.toml", RULE.format(word=word))
    return directory


def put(file: Path, text: str | bytes) -> Path:
    """A file with this text, whatever the umask, written beside and renamed: two such files are never the same one."""
    new = file.with_name(f".new-{file.name}")
    new.write_bytes(text.encode() if isinstance(text, str) else text)
    new.chmod(0o644)
    return new.rename(file)
