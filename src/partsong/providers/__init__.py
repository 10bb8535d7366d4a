"""Where models come from: a file for each API, and each file stands alone but for the HTTP edge."""
