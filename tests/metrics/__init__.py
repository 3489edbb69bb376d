"""What the node's owner is told by numbers and by lines: metrics, alerts, the log, traces."""

#: A container's command: it runs until it is sent TERM.
OBEDIENT = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.05; done"]
