"""Where the files of local models come from."""
