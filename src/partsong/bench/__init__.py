"""The bench: measures whether a mixture of models helps, on which tasks, at what price, and how sure that is."""
