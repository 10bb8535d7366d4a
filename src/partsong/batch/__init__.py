"""Answers files of questions: rows are streamed in, answered within one purse, and kept until all are answered."""
