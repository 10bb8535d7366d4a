"""Models by API: one file for each API. The files share the code for HTTP, and do not import each other."""
