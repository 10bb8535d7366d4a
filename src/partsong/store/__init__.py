"""The store: every call, every run with its events, and the money of each day, in one SQLite file.

It listens to runs and is asked by middleware through small protocols of theirs; it knows neither engine nor models.
"""

from partsong.call import Call, call_key
from partsong.store.recorder import Recorder, new_id
from partsong.store.sqlite.calls import Throughput
from partsong.store.sqlite.limits import Refusal, owed
from partsong.store.sqlite.runs import StoredRun
from partsong.store.sqlite.search import Search
from partsong.store.sqlite.totals import DayTotal, ModelTotal
from partsong.store.sqlite.votes import Choice, Tally, Vote
from partsong.store.store import Mode, Pruned, Store, open_store

__all__ = [
    "Call",
    "Choice",
    "DayTotal",
    "Mode",
    "ModelTotal",
    "Pruned",
    "Recorder",
    "Refusal",
    "Search",
    "Store",
    "StoredRun",
    "Tally",
    "Throughput",
    "Vote",
    "call_key",
    "new_id",
    "open_store",
    "owed",
]
