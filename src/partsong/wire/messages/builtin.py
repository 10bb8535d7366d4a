"""Anthropic's tools that the client runs itself (shell, text editor, memory), as functions with a schema.

A request declares such a tool by its type alone, because Anthropic's models know its arguments. Other models do not,
so the tool becomes a function with the arguments that Anthropic documents. For the client nothing changes: it receives
a `tool_use` block and runs the tool.
"""

from typing import Any

import msgspec
from msgspec import Struct

TEXT: Any = {"type": "string"}
WHOLE: Any = {"type": "integer"}
LINES: Any = {"type": "array", "items": WHOLE, "minItems": 2, "maxItems": 2}


class Builtin(Struct, frozen=True):
    """A tool in all its versions, whose types differ in the date at the end.

    description: description for the model
    fields: JSON Schemas of the arguments other than `command`, by name
    commands: allowed values of the argument `command`; empty (default) if `command` is free text, as in a shell
    """

    description: str
    fields: dict[str, Any]
    commands: tuple[str, ...] = ()

    def schema(self, undo: bool = False) -> bytes:
        """Return the JSON Schema of the arguments. `undo`: whether `undo_edit` is a command; False by default."""
        commands = (*self.commands, "undo_edit") if undo else self.commands
        command = {"type": "string", "enum": commands} if commands else TEXT
        required = ["command"] if commands else []
        properties = {"command": command, **self.fields}
        return msgspec.json.encode({"type": "object", "properties": properties, "required": required})


EDITOR = Builtin(
    "Views, creates and edits text files. view shows a file or lists a directory; view_range gives its first and last "
    "line, -1 for the end. create writes file_text to a new file. str_replace replaces old_str, which must occur "
    "exactly once, by new_str. insert puts the text behind the line insert_line, 0 for the beginning.",
    {
        "path": TEXT,
        "view_range": LINES,
        "file_text": TEXT,
        "old_str": TEXT,
        "new_str": TEXT,
        "insert_line": WHOLE,
        "insert_text": TEXT,
    },
    ("view", "create", "str_replace", "insert"),
)
BUILTINS: dict[str, Builtin] = {
    "bash_": Builtin(
        "Runs a command in a bash session that stays open, so that later commands find its state. With restart the "
        "session is begun anew, and no command is needed.",
        {"restart": {"type": "boolean"}},
    ),
    "text_editor_": EDITOR,
    "memory_": Builtin(
        "Keeps notes in files under /memories that last beyond this conversation. Look there before you begin. view "
        "shows a file or lists a directory, create writes file_text, str_replace replaces old_str by new_str, insert "
        "puts insert_text behind the line insert_line, delete removes, and rename moves old_path to new_path.",
        {
            "path": TEXT,
            "view_range": LINES,
            "file_text": TEXT,
            "old_str": TEXT,
            "new_str": TEXT,
            "insert_line": WHOLE,
            "insert_text": TEXT,
            "old_path": TEXT,
            "new_path": TEXT,
        },
        ("view", "create", "str_replace", "insert", "delete", "rename"),
    ),
}
# The versions of the text editor with the command `undo_edit`.
OLDER_EDITORS = ("text_editor_20241022", "text_editor_20250124")


def builtin(kind: str) -> tuple[str, bytes] | None:
    """Return the description and the JSON Schema of a tool by its type, such as `bash_20250124`.

    Returns `None` for a type that is not in `BUILTINS`.
    """
    for start, known in BUILTINS.items():
        if kind.startswith(start) and kind.removeprefix(start).isdecimal():
            return known.description, known.schema(undo=kind in OLDER_EDITORS)
    return None
