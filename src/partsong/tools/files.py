"""`partsong mcp files FOLDER`: a server of the Model Context Protocol over a folder, whose tools only read."""

import asyncio
from collections.abc import Sequence
from importlib.metadata import version
from typing import Annotated
from urllib.parse import quote

from mcp.server import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, ResourceLink, TextContent, ToolAnnotations
from pydantic import Field

from partsong.tools.folder import LONGEST_READ, MOST_LISTED, Folder, FolderError

INSTRUCTIONS = "The files of a folder: list them, search their text, and read them. Nothing can be changed."
READS = ToolAnnotations(read_only_hint=True, open_world_hint=False)
# No description has an example of a value: small models copy the example.
Within = Annotated[str, Field(description="Path of one subfolder, from a listing. Leave it out for all files.")]


def make_files_server(folder: Folder) -> MCPServer:
    """The server with the tools `list`, `search` and `read`."""
    server: MCPServer = MCPServer("partsong-files", instructions=INSTRUCTIONS, version=version("partsong"))

    @server.tool(name="list", annotations=READS)
    async def list_files(folder_path: Within = "") -> CallToolResult:
        """List the files with their sizes in bytes."""
        try:
            files = await asyncio.to_thread(folder.files, folder_path)
        except FolderError as problem:
            raise ToolError(f"{problem}. Leave folder_path out to list all files.") from None
        lines = [f"{file.name} ({file.size:,})" for file in files[:MOST_LISTED]]
        if len(files) > MOST_LISTED:
            lines.append(f"[and {len(files) - MOST_LISTED:,} more; list a folder in it, or search]")
        return _result("\n".join(lines) or "[there are no files]")

    @server.tool(annotations=READS)
    async def search(
        query: Annotated[str, Field(description="Words to look for.")], folder_path: Within = ""
    ) -> CallToolResult:
        """Find the passages that have most of the words, in files of text and in PDFs."""
        try:
            passages, left_out = await folder.search(query, folder_path)
        except FolderError as problem:
            raise ToolError(f"{problem}. Leave folder_path out to search all files.") from None
        texts = [f"[{each.file}, from character {each.start}]\n{each.text}" for each in passages]
        if left_out:
            texts.append(f"[{left_out:,} files were not searched: they have no text that can be read, or are too many]")
        return _result("\n\n".join(texts) or "[no file has any of these words]", [each.file for each in passages])

    @server.tool(annotations=READS)
    async def read(
        file: Annotated[str, Field(description="Path of the file, as a listing or a search names it.")],
        start: Annotated[int, Field(ge=0, description="The character from which to read. Default: the first.")] = 0,
    ) -> CallToolResult:
        """Read the text of a file: text or PDF."""
        try:
            text = await folder.text(file)
        except FolderError as problem:
            raise ToolError(str(problem)) from None
        end = min(len(text), start + LONGEST_READ)
        piece = text[start:end]
        if start or end < len(text):
            on = f"; read on with start={end}" if end < len(text) else ""
            piece = f"{piece}\n[characters {start:,} to {end:,} of {len(text):,}{on}]"
        return _result(piece or "[the file is empty]", [file])

    return server


def _result(text: str, files: Sequence[str] = ()) -> CallToolResult:
    """The text, with a link to each file that it was read from."""
    links = [ResourceLink(type="resource_link", name=name, uri=f"file:{quote(name)}") for name in dict.fromkeys(files)]
    return CallToolResult(content=[TextContent(type="text", text=text), *links])
