"""What Prometheus is told. The core keeps the numbers; who asks for them, and over what, is not its business."""

from server.metrics.registry import Metrics

__all__ = ["Metrics"]
