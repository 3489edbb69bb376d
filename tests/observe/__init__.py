"""The observer: its process, what it serves over HTTP, and its pages in a browser."""
