"""Which methods the front door forwards, and what it says of the others."""

from __future__ import annotations

#: Only this version of CRI is forwarded: another one would go past every hook.
FORWARDED = "/runtime.v1."

_RUNTIME = """
    Version RunPodSandbox StopPodSandbox RemovePodSandbox PodSandboxStatus ListPodSandbox CreateContainer
    StartContainer StopContainer RemoveContainer ListContainers ContainerStatus UpdateContainerResources
    ReopenContainerLog ExecSync Exec Attach PortForward ContainerStats ListContainerStats PodSandboxStats
    ListPodSandboxStats UpdateRuntimeConfig Status CheckpointContainer ListMetricDescriptors
    ListPodSandboxMetrics RuntimeConfig UpdatePodSandboxResources CheckpointPod RestorePod
"""
_IMAGE = "ListImages ImageStatus PullImage RemoveImage ImageFsInfo"

#: The methods known to be one message for one message (CRI ``api.proto``), which grpc carries with fewer steps.
#: Every other one is forwarded as a stream, which serves any method: this list is for speed, not for correctness.
UNARY = frozenset(
    [f"/runtime.v1.RuntimeService/{name}" for name in _RUNTIME.split()]
    + [f"/runtime.v1.ImageService/{name}" for name in _IMAGE.split()]
)

#: The methods that are refused rather than forwarded when the interceptor fails: without its verdict a malformed
#: declaration would be accepted, or a PostStart lost. Nothing may keep a container from being stopped.
REFUSED_ON_BUG = frozenset({"/runtime.v1.RuntimeService/CreateContainer", "/runtime.v1.RuntimeService/StartContainer"})


def unimplemented_text(method: str) -> str:
    """Why a method is not forwarded, for a person."""
    service = method.strip("/").partition("/")[0]
    if service.startswith("runtime.v1alpha2."):
        return (
            f"hookshim does not forward {service}: CRI v1alpha2 would go past every hook; "
            "use a client that speaks CRI v1"
        )
    return f"hookshim forwards CRI v1 only (runtime.v1.RuntimeService, runtime.v1.ImageService), not {service}"
