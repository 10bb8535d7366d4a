"""What the web page asks of its server: its own routes below /api, a file for each concern. They may change with it.

Callers are known by the same keys as everywhere, and see their own runs, votes and recipes alone.
"""

from partsong.server.pages.history import History
from partsong.server.pages.overview import Overview
from partsong.server.pages.recipes import Recipes
from partsong.server.pages.results import Results
from partsong.server.pages.votes import Votes

__all__ = ["History", "Overview", "Recipes", "Results", "Votes"]
