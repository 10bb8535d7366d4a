"""Documents of a conversation, read before a run: PDFs and files of text become text."""
