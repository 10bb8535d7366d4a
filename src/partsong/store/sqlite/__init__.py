"""The back end in one SQLite file: a file for each table or purpose, and the two threads that read and write."""
