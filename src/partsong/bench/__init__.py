"""The bench: does a mixture help, on what, at what price, and is it sure?"""
