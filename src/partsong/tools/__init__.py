"""Servers with tools that seats use to look things up, and the server of partsong's own over a folder."""
