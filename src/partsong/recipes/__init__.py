"""The recipes that come with partsong, as TOML files, and how recipes are read and found."""
