"""The store in one SQLite file: a file for each table or purpose, and the threads that read and write them."""
