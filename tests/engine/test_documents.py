"""Documents in a run: who gets the file, who reads its text, what is told, and what it may cost."""

import base64
import hashlib
from decimal import Decimal

import pytest

from partsong import (
    Agent,
    Aggregator,
    BudgetError,
    Conversation,
    Document,
    Image,
    Layer,
    Message,
    Model,
    QuestionError,
    Recipe,
    Request,
    Text,
    ToolResult,
    asking,
)
from partsong.call import call_key
from partsong.documents.reader import DocumentReader
from partsong.events import RunFinished, RunStarted, from_json, to_json
from partsong.model_info import ModelInfo
from partsong.prompts import advised, with_documents
from partsong.store.encoding import pack_events, serialized, unpack_events
from partsong.wire.tokens import MOST_TOKENS_AN_IMAGE, estimate, estimate_tokens, likely_tokens
from tests import pdfs
from tests.engine.test_engine import Recorder, heard

REPORT = Document(pdfs.pdf("Revenue was 41 million.", "Costs fell.", pictures=2), name="report.pdf")


class Reads(Recorder):
    """A model that takes PDFs as they are."""

    info = ModelInfo(documents=True)


def recipe(**settings: object) -> Recipe:
    layer = Layer((Agent("t:a"), Agent("t:b")))
    return Recipe("test", (layer,), Aggregator("t:z"), **settings)  # type: ignore[arg-type]


async def test_models_that_take_files_get_the_file_and_others_its_text() -> None:
    a, b, z = Recorder("a"), Reads("b"), Recorder("z")
    question = asking("What was the revenue?", documents=(REPORT,))
    events = await heard(recipe(), {"t:a": a, "t:b": b, "t:z": z}, question)
    text = a.requests[0].messages[0].text
    assert text.startswith("[document report.pdf, 2 pages]\n<document-")
    assert "Revenue was 41 million." in text
    assert text.endswith("\n\nWhat was the revenue?")
    assert z.requests[0].messages[0].text == text
    sent = b.requests[0].messages[0].parts[0]
    assert isinstance(sent, Document)
    assert sent.data == REPORT.data
    start, end = events[0], events[-1]
    assert isinstance(start, RunStarted)
    assert start.conversation.messages[0].parts[0] == sent
    assert isinstance(end, RunFinished)
    assert [(loss.layer, loss.seat, loss.model, loss.kind, loss.message) for loss in end.losses] == [
        (0, 0, "t:a", "shortened", "without 2 pictures of report.pdf"),
        (1, 0, "t:z", "shortened", "without 2 pictures of report.pdf"),
    ]


async def test_every_seat_and_every_run_reads_the_same_bytes() -> None:
    requests = []
    for _ in range(2):
        a, b = Recorder("a"), Recorder("b")
        await heard(recipe(), {"t:a": a, "t:b": b, "t:z": Recorder("z")}, asking("?", documents=(REPORT,)))
        requests += [a.requests[0].messages, b.requests[0].messages]
    assert all(messages == requests[0] for messages in requests)


async def test_what_cannot_be_read_costs_no_call() -> None:
    a = Recorder("a")
    models: dict[str, Model] = {"t:a": a, "t:b": Recorder("b"), "t:z": Recorder("z")}
    with pytest.raises(QuestionError, match=r"secret\.pdf: is encrypted"):
        await heard(recipe(), models, asking("?", documents=(Document(pdfs.encrypted(), name="secret.pdf"),)))
    assert a.requests == []


async def test_a_scanned_pdf_needs_a_model_that_takes_the_file() -> None:
    question = asking("?", documents=(Document(pdfs.pdf("", pictures=1), name="scan.pdf"),))
    with pytest.raises(QuestionError, match=r"scan\.pdf: has no text that can be read .* no model of test takes PDFs"):
        await heard(recipe(), {"t:a": Recorder("a"), "t:b": Recorder("b"), "t:z": Recorder("z")}, question)
    a = Recorder("a")
    end = (await heard(recipe(), {"t:a": a, "t:b": Recorder("b"), "t:z": Reads("z")}, question))[-1]
    assert isinstance(end, RunFinished)
    assert "scan.pdf, pages: 1, without text" in a.requests[0].messages[0].text
    assert [loss.seat for loss in end.losses] == [0, 1]


async def test_a_strict_recipe_refuses_what_would_be_left_out_before_it_costs() -> None:
    a = Recorder("a")
    models: dict[str, Model] = {"t:a": a, "t:b": Recorder("b"), "t:z": Recorder("z")}
    with pytest.raises(QuestionError, match=r"would not be shown 2 pictures of report\.pdf"):
        await heard(recipe(strict=True), models, asking("?", documents=(REPORT,)))
    assert a.requests == []
    whole = Document(pdfs.pdf("words"), name="whole.pdf")
    await heard(recipe(strict=True), models, asking("?", documents=(whole,)))
    assert len(a.requests) == 1


async def test_a_document_alone_is_a_question() -> None:
    z = Recorder("z")
    conversation = Conversation((Message("user", (Document(b"Why is the sky blue?", name="a.txt"),)),))
    await heard(Recipe("t", (), Aggregator("t:z")), {"t:z": z}, conversation)
    assert "Why is the sky blue?" in z.requests[0].messages[0].text


async def test_the_money_for_a_document_is_planned() -> None:
    class Priced(Recorder):
        info = ModelInfo(max_tokens=10, dollars=lambda usage: usage.input_tokens * Decimal("0.001"))

    long = asking("?", documents=(Document(b"word " * 2000, name="a.txt"),))
    priced = Priced("z")
    single = Recipe("t", (), Aggregator("t:z"), max_dollars=Decimal(1))
    with pytest.raises(BudgetError):
        await heard(single, {"t:z": priced}, long)
    assert priced.requests == []
    await heard(single, {"t:z": priced}, asking("?", documents=(Document(b"word", name="a.txt"),)))


async def test_an_aggregator_that_cannot_read_it_all_is_not_asked() -> None:
    class Narrow(Recorder):
        info = ModelInfo(window=1000)

    with pytest.raises(QuestionError, match=r"has about .* tokens, but t:z, the aggregator, reads 1,000"):
        await heard(
            Recipe("t", (), Aggregator("t:z")),
            {"t:z": Narrow("z")},
            asking("?", documents=(Document(b"word " * 2000, name="a.txt"),)),
        )


async def test_tokens_count_the_text_and_a_picture_of_each_page_where_the_file_is_sent() -> None:
    read = await DocumentReader().read(asking("?", documents=(REPORT,)))
    document = read.messages[0].parts[0]
    assert isinstance(document, Document)
    as_text = with_documents(read.messages, sent=False)
    as_file = with_documents(read.messages, sent=True)
    assert as_file == read.messages
    assert estimate_tokens(Request(as_text)) == estimate(f"{document.text}\n\n") + estimate("?") + 4
    assert estimate_tokens(Request(as_file)) == estimate(document.text) + 2 * MOST_TOKENS_AN_IMAGE + estimate("?") + 4
    assert likely_tokens(as_file) >= likely_tokens(as_text) + 2 * 1500 - 5


async def test_proposers_read_documents_in_results_of_tools_and_no_mark_moves_their_keys() -> None:
    document = Document(b"42 apples", name="count.txt", cache_control="1h")
    conversation = Conversation(
        (Message("user", (document, Text("?"))), Message("tool", (ToolResult("1", (Text("see "), document)),)))
    )
    read = await DocumentReader().read(conversation)
    told = advised(read, "every_step")
    first = told.messages[0].parts[0]
    assert isinstance(first, Document)
    assert first.cache_control == ""
    assert "42 apples" in told.messages[1].text
    shown = with_documents(read.messages, sent=True)[0].parts[0]
    assert isinstance(shown, Text)
    assert shown.cache_control == "1h"


async def test_runs_with_documents_are_stored_and_read_back() -> None:
    events = await heard(Recipe("t", (), Aggregator("t:z")), {"t:z": Reads("z")}, asking("?", documents=(REPORT,)))
    assert [from_json(to_json(event)) for event in events] == events
    timed = [(0.0, event) for event in events]
    assert unpack_events([pack_events(timed)]) == timed


def test_keys_of_older_requests_do_not_change() -> None:
    """Digests of the version before documents: stored calls are found again."""
    picture = Image(base64.b64decode("R0lGODlhAQABAAAAADs="), "image/gif")
    messages = (
        Message("system", (Text("Be brief."),)),
        Message("user", (picture, Text("What is this?"))),
        Message("tool", (ToolResult("1", (Text("42"), picture)),)),
    )
    assert call_key("t:a", Request(messages)).hex() == KEY
    assert hashlib.sha256(serialized(messages)[0]).hexdigest() == serialized(messages)[1].hex()


KEY = "e3d6576aece23db055c190907cdba46e0cf5d72ad9f0efc465605fde807acb0d"
