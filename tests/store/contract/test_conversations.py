"""Conversations: listed once a run names one, found by all their words, changed, and gone with their last run."""

from typing import Any

from partsong import Answer, Text
from partsong.events import RunFinished, RunStarted
from partsong.model import NOTHING_USED, asking
from partsong.store import Change, ConversationSearch, Timed
from partsong.store.backend import Backend
from tests.store.contract.backends import Opening
from tests.store.contract.test_runs import NOON, SOLO, summary


async def say(
    backend: Backend, run: str, conversation: str, minutes: float = 0, question: str = "Why?", answer: str = "So."
) -> None:
    """Store a run of a conversation: its beginning, and then its end."""
    told: list[Timed] = [
        (0.0, RunStarted(SOLO, asking(question))),
        (1.0, RunFinished(Answer((Text(answer),)), NOTHING_USED, model="lab:z")),
    ]
    labels = {"conversation": conversation} if conversation else {}
    for index, event in enumerate(told):
        status = "finished" if index else "open"
        await backend.save_run(
            summary(run, minutes, labels=labels, question=question, status=status), index, [event], []
        )


async def listed(backend: Backend, **fields: Any) -> list[str]:
    found, _ = await backend.conversations(ConversationSearch(**fields))
    return [each.id for each in found]


async def test_a_conversation_is_listed_with_its_first_question_and_its_newest_run(opening: Opening) -> None:
    async with opening() as backend:
        await say(backend, "a1", "", 0, "What is a fugue?")
        assert await listed(backend) == []  # a run alone is no conversation
        await say(backend, "a2", "a1", 1, "And a canon?")
        await say(backend, "b1", "some name", 2, "Größe \x00?")
        await say(backend, "c1", "other", 3)
        await backend.save_run(summary("d1", 9, caller="alice", labels={"conversation": "a1"}), 0, [], [])
        found, more = await backend.conversations(ConversationSearch())
        assert [(each.id, each.title, each.last, each.named, more) for each in found] == [
            ("other", "Why?", "c1", False, False),
            ("some name", "Größe \x00?", "b1", False, False),
            ("a1", "What is a fugue?", "a2", False, False),
        ]
        assert found[2].latest.timestamp() == NOON.timestamp() + 60
        assert await backend.find_conversation("", "a1") == found[2]
        assert await backend.find_conversation("alice", "other") is None
        assert [run.id for run in await backend.runs_in("", "a1", 9)] == ["a1", "a2"]
        assert [run.id for run in await backend.runs_in("", "a1", 1)] == ["a2"]
        assert [run.id for run in await backend.runs_in("alice", "a1", 9)] == ["d1"]
        assert [run.id for run in await backend.runs_in("", "c1", 9)] == ["c1"]


async def test_it_is_renamed_pinned_and_archived(opening: Opening) -> None:
    async with opening() as backend:
        for minutes, name in enumerate("abc"):
            await say(backend, f"{name}1", name, minutes)
        assert await backend.change_conversation("", "a", Change(title="Fugues"))
        assert await backend.change_conversation("", "a", Change(pinned=True))
        assert await listed(backend) == ["a", "c", "b"]
        assert await backend.change_conversation("", "c", Change(archived=True))
        assert await listed(backend) == ["a", "b"]
        assert await listed(backend, archived=True) == ["c"]
        found = await backend.find_conversation("", "a")
        assert found is not None
        assert (found.title, found.named, found.pinned, found.archived) == ("Fugues", True, True, False)
        await say(backend, "a2", "a", 5)  # what goes on keeps its name and its pin
        assert (await backend.find_conversation("", "a") or found).title == "Fugues"
        assert await backend.change_conversation("", "a", Change(title="", pinned=False))
        assert (await backend.find_conversation("", "a") or found).title == "Why?"
        for caller, name in (("", "nobody"), ("alice", "a"), ("", "")):
            assert not await backend.change_conversation(caller, name, Change(title="Mine"))
        await say(backend, "r1", "", 6)
        assert await backend.change_conversation("", "r1", Change(pinned=True))  # it begins with a run that stood alone
        assert await listed(backend) == ["r1", "a", "b"]


async def test_a_search_finds_all_words_wherever_they_stand(opening: Opening) -> None:
    async with opening() as backend:
        await say(backend, "a1", "a", 0, "What is a fugue?\nPlease.", "Voices in FLIGHT.")
        await say(backend, "a2", "a", 1, "And in Köln?", "100% the same")
        await say(backend, "b1", "b", 2, "What is a canon?", "Voices that follow.")
        await backend.change_conversation("", "b", Change(title="Strenge Stücke"))
        assert await listed(backend, text="voices") == ["b", "a"]
        assert await listed(backend, text="flight KÖLN please") == ["a"]
        assert await listed(backend, text="stücke canon") == ["b"]
        assert await listed(backend, text="100%") == ["a"]
        assert await listed(backend, text="_ flight") == []
        assert await listed(backend, text="'; DROP TABLE words; --") == []
        assert await listed(backend, text="voices", caller="alice") == []


async def test_a_page_goes_on_where_the_one_before_ended(opening: Opening) -> None:
    async with opening() as backend:
        for index in range(5):
            await say(backend, f"r{index}", f"c{index}", index // 2)  # some began in the same moment
        await backend.change_conversation("", "c1", Change(pinned=True))
        pages, before, more = [], "", True
        while more:
            found, more = await backend.conversations(ConversationSearch(limit=2, before=before))
            pages.append([each.id for each in found])
            before = found[-1].id
        assert pages == [["c1", "c4"], ["c3", "c2"], ["c0"]]


async def test_it_goes_with_its_last_run_and_so_do_its_words(opening: Opening) -> None:
    async with opening() as backend:
        await say(backend, "a1", "a", 0, "A needle")
        await say(backend, "a2", "a", 1)
        await backend.change_conversation("", "a", Change(title="Haystack"))
        await backend.delete_run("a1")
        assert await listed(backend) == ["a"]
        assert await listed(backend, text="needle") == []
        await backend.delete_run("a2")
        assert await listed(backend) == []
        await say(backend, "b1", "b", 2)
        await say(backend, "b2", "b", 3)
        await backend.delete_runs("", conversation="b")
        assert await listed(backend) == []
        await say(backend, "c1", "c", 4)
        await backend.prune(NOON.timestamp() + 3600)
        assert await listed(backend) == []
        await say(backend, "a3", "a", 5)
        assert (await backend.conversations(ConversationSearch()))[0][0].title == "Why?"  # the old name is gone


async def test_runs_of_batches_and_benches_are_apart(opening: Opening) -> None:
    async with opening() as backend:
        for minutes, (run, source) in enumerate((("a", ""), ("b", "batch"), ("c", "bench"))):
            await backend.save_run(summary(run, minutes, source=source), 0, [], [])
        assert [run.id for run in await backend.latest_runs(9)] == ["c", "b", "a"]
        assert [run.id for run in await backend.latest_runs(9, apart=False)] == ["a"]
        found = await backend.find_run("b")
        assert found is not None
        assert found.source == "batch"
