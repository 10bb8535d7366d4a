"""The store: calls, runs with their events, votes, the money of each day, and the requests of a server's keys.

The store listens to runs, and middleware asks it through small protocols of its own. It knows neither the engine nor
models. The database is behind `backend.Backend`; today that is one SQLite file.
"""

from partsong.call import Call, call_key
from partsong.store.backend import SavedAs, StoreOffError
from partsong.store.conversations import Change, ConversationSearch, StoredConversation
from partsong.store.limits import Refusal, owed
from partsong.store.patience import patient
from partsong.store.recorder import Recorder, new_id
from partsong.store.runs import AFTER, CONVERSATION, Deleted, Pruned, Search, StoredRun, Timed
from partsong.store.store import Mode, Store, open_store
from partsong.store.throughput import Throughput
from partsong.store.totals import DayTotal, ModelTotal
from partsong.store.votes import Choice, Vote, VoteTally

__all__ = [
    "AFTER",
    "CONVERSATION",
    "Call",
    "Change",
    "Choice",
    "ConversationSearch",
    "DayTotal",
    "Deleted",
    "Mode",
    "ModelTotal",
    "Pruned",
    "Recorder",
    "Refusal",
    "SavedAs",
    "Search",
    "Store",
    "StoreOffError",
    "StoredConversation",
    "StoredRun",
    "Throughput",
    "Timed",
    "Vote",
    "VoteTally",
    "call_key",
    "new_id",
    "open_store",
    "owed",
    "patient",
]
