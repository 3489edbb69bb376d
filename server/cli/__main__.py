"""``python -m server.cli`` is ``hookshim``."""

from server.cli.program import main

if __name__ == "__main__":
    main()
