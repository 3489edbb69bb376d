"""The manifests for a cluster: Kubernetes' own models take every word, and no more is asked for than is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes.client import ApiClient

from server import VERSION

DEPLOY = Path(__file__).parents[2] / "hack/deploy"
FILES = ("daemonset.yaml", "daemonset-uninstall.yaml")

#: What stands in a manifest as ``apiVersion`` and ``kind``, and the model that the API server's schema has made.
MODELS = {
    ("v1", "Namespace"): "V1Namespace",
    ("v1", "ServiceAccount"): "V1ServiceAccount",
    ("v1", "Secret"): "V1Secret",
    ("rbac.authorization.k8s.io/v1", "ClusterRole"): "V1ClusterRole",
    ("rbac.authorization.k8s.io/v1", "ClusterRoleBinding"): "V1ClusterRoleBinding",
    ("apps/v1", "DaemonSet"): "V1DaemonSet",
}


def documents(name: str) -> list[dict[str, Any]]:
    """The objects of a manifest."""
    return list(yaml.safe_load_all((DEPLOY / name).read_text()))


def only(kind: str, name: str = FILES[0]) -> dict[str, Any]:
    """The one object of this kind."""
    [found] = [document for document in documents(name) if document["kind"] == kind]
    return found


@pytest.mark.parametrize("name", FILES)
def test_every_field_is_one_of_kubernetes(name: str) -> None:
    """Read into the client's models and written again it is the same: none is unknown, none is missing."""
    client = ApiClient()
    for document in documents(name):
        model = client._ApiClient__deserialize(document, MODELS[document["apiVersion"], document["kind"]])
        assert client.sanitize_for_serialization(model) == document


def test_it_may_write_events_and_nothing_else() -> None:
    """Hookshim's account in the cluster."""
    assert only("ClusterRole")["rules"] == [{"apiGroups": [""], "resources": ["events"], "verbs": ["create", "patch"]}]
    binding = only("ClusterRoleBinding")
    account = only("ServiceAccount")["metadata"]
    assert binding["roleRef"]["name"] == only("ClusterRole")["metadata"]["name"]
    assert binding["subjects"] == [{"kind": "ServiceAccount", **account}]
    secret = only("Secret")["metadata"]
    assert secret["annotations"]["kubernetes.io/service-account.name"] == account["name"]
    assert secret["namespace"] == account["namespace"]


@pytest.mark.parametrize("name", FILES)
def test_only_nodes_that_were_named_are_touched(name: str) -> None:
    """A label has to be put on a node first: applying the manifest alone does nothing."""
    spec = only("DaemonSet", name)["spec"]["template"]["spec"]
    [label] = [label for label in spec["nodeSelector"] if label.startswith("hookshim.dev/")]
    assert spec["nodeSelector"][label] == "true"
    assert label in (DEPLOY / name).read_text().split("apiVersion")[0]


@pytest.mark.parametrize("name", FILES)
def test_the_pods_are_what_they_say(name: str) -> None:
    """The image of this version; the selector finds them; all volumes are there; only the first step is privileged."""
    spec = only("DaemonSet", name)["spec"]
    template = spec["template"]
    assert spec["selector"]["matchLabels"] == template["metadata"]["labels"]
    [setup], [idle] = template["spec"]["initContainers"], template["spec"]["containers"]
    assert setup["image"] == idle["image"] == f"hookshim-setup:{VERSION}"
    assert setup["securityContext"] == {"privileged": True}
    assert "securityContext" not in idle
    assert template["spec"]["hostPID"] is True
    volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
    assert {mount["name"] for mount in setup["volumeMounts"]} == set(volumes)
    script = (DEPLOY / "image/cluster-setup").read_text()
    assert f"place={volumes['setup']['hostPath']['path']}\n" in script
    assert all(mount["mountPath"] in script for mount in setup["volumeMounts"])
    assert setup["command"][1] + ")" in script


def test_the_image_has_what_the_pods_run() -> None:
    """Its files are those of the checkout."""
    copied = [line.split()[1:] for line in (DEPLOY / "image/Containerfile").read_text().splitlines() if "COPY" in line]
    sources = [Path(word) for words in copied for word in words[:-1] if not word.startswith("--")]
    files = [source for source in sources if source.parts[0] != "dist"]
    assert all((DEPLOY.parents[1] / source).is_file() for source in files)
    assert {source.name for source in files} == {"cluster-setup", "node-setup", "kubelet-hookshim.conf"}
