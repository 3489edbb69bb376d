"""The admin service: what the daemon alone can tell its node's owner, and what he may ask it to do."""
