"""`partsong chat`: a conversation in the terminal, turn by turn, with the same mixture or another one.

The models and the store stay open from turn to turn, so a local model is loaded once. The event loop stands still while
a question is written. Ctrl-C stops a turn, which is then left out of the conversation, and ends the chat at the prompt.
"""

import asyncio
import sys
from contextlib import AsyncExitStack, suppress
from decimal import Decimal
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from partsong.assembly import Assembly, assembling, daily_funds
from partsong.cli import candidates
from partsong.cli.ask import capped, choose, keep
from partsong.cli.downloads import Downloads
from partsong.cli.earlier import Earlier, earlier
from partsong.cli.listening import beside, listen
from partsong.cli.loop import complete, event_loop
from partsong.cli.options import Config, ModelId, RecipeName
from partsong.cli.options import Store as StoreOption
from partsong.cli.printable import single_line
from partsong.cli.progress import say
from partsong.cli.summary import dollars
from partsong.configuration import Configuration, StoreMode, find_configuration
from partsong.documents.reader import DocumentReader
from partsong.engine import perform
from partsong.errors import InputError, PartsongError
from partsong.events import AnyEvent, RunFailed, RunFinished
from partsong.files import PRIVATE, write_file
from partsong.folders import user_folder
from partsong.model import Conversation, Message, Text
from partsong.recipe import Recipe, single
from partsong.recipes.finding import named_recipe
from partsong.store import AFTER, CONVERSATION, Store

PROMPT = "> "
KEPT = 1000  # lines of the history of questions
HELP = """\
/recipe NAME   ask another recipe, or a single model as provider:model, from now on
/again         ask the last question again
/cost          what this chat has cost so far
/save FILE     write the conversation as Markdown
/help          show this list
/quit          end the chat, as Ctrl-D does"""


def chat(
    *,
    recipe: RecipeName = None,
    model: ModelId = None,
    system: Annotated[
        str, Parameter(name=("--system", "-s"), metavar="TEXT", help="System prompt for every model.")
    ] = "",
    go_on: Annotated[
        str | None,
        Parameter(
            name=("--continue", "-c"),
            metavar="RUN",
            completer=candidates.runs,
            help="Go on from an earlier run: its id, or last.",
        ),
    ] = None,
    proposals: Annotated[bool, Parameter(help="Print the proposals before each answer.")] = False,
    store: StoreOption = None,
    config: Config = None,
) -> int:
    """Talk with a mixture of models, turn by turn."""
    configuration = find_configuration(config)
    before = None if go_on is None else complete(earlier(go_on))
    chosen = capped(before.recipe, configuration) if before and not (recipe or model) else None
    chosen = chosen or choose(recipe, model, configuration)
    with asyncio.Runner(loop_factory=event_loop()) as runner:
        talk = Chat(runner, configuration, chosen, system, before, proposals=proposals)
        runner.run(talk.open(store))
        try:
            return talk.go_on()
        finally:
            runner.run(talk.close())


class Chat:
    """A chat under way.

    messages: the conversation so far
    recipe: the recipe that is asked now
    spent: dollars of all turns; `None` if the price of one is unknown
    """

    def __init__(
        self,
        runner: asyncio.Runner,
        configuration: Configuration,
        recipe: Recipe,
        system: str,
        before: Earlier | None,
        *,
        proposals: bool,
    ) -> None:
        self.runner, self.configuration, self.recipe, self.proposals = runner, configuration, recipe, proposals
        kept = () if before is None else before.messages
        if system:
            kept = (Message("system", (Text(system),)), *(message for message in kept if message.role != "system"))
        self.messages: tuple[Message, ...] = kept
        self.labels = {} if before is None else before.labels
        self.spent: Decimal | None = Decimal(0)
        self._stack = AsyncExitStack()
        self._store: Store
        self._assembly: Assembly

    async def open(self, mode: StoreMode | None) -> None:
        """Open the store and what makes the models. Raises `ConfigurationError` if the recipe cannot be asked."""
        self._store = await keep(self._stack, self.configuration, mode)
        self._downloads = self._stack.enter_context(Downloads(sys.stderr))
        self._assembly = await self._stack.enter_async_context(
            assembling(self.configuration, fetching=self._downloads.hear, store=self._store)
        )
        self._assembly.check(self.recipe.models)

    async def close(self) -> None:
        await self._stack.aclose()

    def go_on(self) -> int:
        """Read questions and answer them until there is no more; return the exit code."""
        asked = sys.stdin.isatty()
        if asked:
            say(f"{self.recipe.name}; /help lists the commands, and Ctrl-D ends the chat")
        lines = _Lines(asked)
        failed = False
        with lines:
            while (line := lines.next()) is not None:
                if not line.strip():
                    continue
                try:
                    if line.startswith("/"):
                        if not self.command(line.strip()):
                            break
                        continue
                    failed = not self.turn(line)
                except PartsongError as problem:
                    say(str(problem))
                    failed = True
        return 1 if failed and not asked else 0

    def command(self, line: str) -> bool:
        """Do what a line with a slash says. Returns `False` to end the chat."""
        name, _, rest = line[1:].partition(" ")
        match name, rest.strip():
            case "quit" | "exit", _:
                return False
            case "help", _:
                print(HELP)
            case "recipe", "":
                print(self.recipe.name)
            case "recipe", wanted:
                found = single(wanted) if ":" in wanted else named_recipe(wanted)
                self._assembly.check(found.models)
                self.recipe = capped(found, self.configuration)
            case "again", _:
                users = [index for index, message in enumerate(self.messages) if message.role == "user"]
                if not users:
                    raise InputError("there is no question yet")
                before, self.messages = self.messages, self.messages[: users[-1]]
                if not self.turn(before[users[-1]].text, again=True):
                    self.messages = before  # nothing is lost before something new is there
            case "cost", _:
                print("the price of a model is unknown" if self.spent is None else dollars(self.spent))
            case "save", "":
                raise InputError("/save needs the name of a file")
            case "save", path:
                write_file(Path(path).expanduser(), self.as_markdown().encode("utf-8", "replace"))
            case _:
                raise InputError(f"there is no command /{single_line(name, sys.stderr.encoding)}; /help lists all")
        return True

    def turn(self, question: str, *, again: bool = False) -> bool:
        """Ask a question, and return whether there is an answer. Only then do both belong to the conversation.

        again: whether a stored answer is of no use
        """
        messages = (*self.messages, Message("user", (Text(question),)))
        try:
            end = self.runner.run(self.perform(Conversation(messages), again=again))
        except KeyboardInterrupt:
            say("stopped; the question is not part of the conversation")
            return False
        if isinstance(end, RunFailed):
            what = "the answer broke off" if end.text else "no answer"
            say(f"{what}: {end.error.message}")
            return False
        self.messages = (*messages, Message("assistant", (Text(end.answer.text),)))
        return True

    async def perform(self, conversation: Conversation, *, again: bool) -> RunFinished | RunFailed:
        """Perform, show and store one turn."""
        ends: list[RunFinished | RunFailed] = []
        models = await self._assembly.models(self.recipe.models)
        recorder = self._store.record(labels=self.labels, begins=True)
        drawn = sys.stdout.isatty()
        async with AsyncExitStack() as stack:
            stack.push_async_callback(recorder.close)
            loading = self._downloads.loading
            listener = await listen(
                stack, drawn=drawn, proposals=self.proposals, json=False, quiet=False, loading=loading
            )

            async def hear(event: AnyEvent) -> None:
                await recorder.hear(event)
                await listener(event)
                if isinstance(event, RunFinished | RunFailed):
                    ends.append(event)
                    dollars = event.usage.dollars
                    self.spent = None if self.spent is None or dollars is None else self.spent + dollars

            await perform(
                self.recipe,
                conversation,
                models,
                hear,
                watch=drawn or beside(json=False, quiet=False),
                cache=False if again else None,
                funds=daily_funds(self.configuration, self._store),
                documents=DocumentReader(self.configuration.documents),
                record=recorder.id,
                bounds=self.configuration.bounds,
                tools=self._assembly.tools(self.recipe.tools),
            )
        self.labels = {CONVERSATION: recorder.id, **self.labels, AFTER: recorder.id}
        return ends[-1]

    def as_markdown(self) -> str:
        """Return the conversation as Markdown."""
        names = {"system": "System", "user": "You", "assistant": "Answer"}
        parts = [f"## {names.get(message.role, message.role)}\n\n{message.text}\n" for message in self.messages]
        return "\n".join(parts)


class _Lines:
    """The lines that the user types, with a history that the next chat has too; or the lines of a pipe."""

    def __init__(self, asked: bool) -> None:
        self.asked = asked
        self.path = user_folder("state") / "chat_history"

    def __enter__(self) -> None:
        if not self.asked:
            return
        with suppress(ImportError, OSError):
            import readline

            readline.set_history_length(KEPT)
            if self.path.is_file():
                readline.read_history_file(self.path)

    def __exit__(self, *_: object) -> None:
        if not self.asked:
            return
        with suppress(ImportError, OSError, PartsongError):
            import readline

            count = readline.get_current_history_length()
            lines = [readline.get_history_item(number + 1) or "" for number in range(max(0, count - KEPT), count)]
            self.path.parent.mkdir(parents=True, exist_ok=True)
            write_file(
                self.path, "".join(f"{line}\n" for line in lines).encode("utf-8", "replace"), permissions=PRIVATE
            )

    def next(self) -> str | None:
        """The next line; `None` if there is no more."""
        if not self.asked:
            line = sys.stdin.readline()
            return line.rstrip("\n") if line else None
        try:
            return input(PROMPT)
        except (EOFError, KeyboardInterrupt):
            print()
            return None
