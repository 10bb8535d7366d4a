"""The shipped recipes, as TOML files, and the code that reads recipes and finds them by name."""
