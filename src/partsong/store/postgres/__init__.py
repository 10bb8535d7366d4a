"""PostgreSQL's back end of the store."""
