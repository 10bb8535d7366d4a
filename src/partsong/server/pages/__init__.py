"""The routes of the web page, below `/api`. They change with the page, unlike the routes below `/v1`.

Callers use the same keys as for the other routes, and see their own runs, votes and recipes only.
"""

from partsong.server.pages.again import GoingOn
from partsong.server.pages.conversations import Conversations
from partsong.server.pages.history import History
from partsong.server.pages.models import Models
from partsong.server.pages.overview import Overview
from partsong.server.pages.prompts import Prompts
from partsong.server.pages.recipes import Recipes
from partsong.server.pages.results import Results
from partsong.server.pages.setup import Setup
from partsong.server.pages.votes import Votes

__all__ = [
    "Conversations",
    "GoingOn",
    "History",
    "Models",
    "Overview",
    "Prompts",
    "Recipes",
    "Results",
    "Setup",
    "Votes",
]
