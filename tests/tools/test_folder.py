"""The files of a folder: what is listed, found and read, and that nothing outside the folder ever is."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from partsong.cli.main import run
from partsong.configuration import DocumentLimits, ToolServer
from partsong.toolbox import Result
from partsong.tools.folder import Folder, FolderError
from partsong.tools.servers import Servers
from tests.pdfs import pdf

SECRET = "the secret of the house"


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """A folder with texts, a PDF, hidden files, and links that lead out of the folder."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.txt").write_text(SECRET)
    folder = tmp_path / "notes"
    (folder / "deep" / "er").mkdir(parents=True)
    (folder / "sky.md").write_text("# Sky\n\nThe sky is blue because of Rayleigh scattering.\n")
    (folder / "deep" / "er" / "sea.txt").write_text("The sea is salty. " * 2000 + "The whale Ahab hunted is white.")
    (folder / "report.pdf").write_bytes(pdf("The quarterly result was 42 million."))
    (folder / "picture.bin").write_bytes(b"\x00\xff\xfe" * 100)
    (folder / ".env").write_text(SECRET)
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text(SECRET)
    (folder / "out.txt").symlink_to(tmp_path / "outside" / "secret.txt")
    (folder / "out").symlink_to(tmp_path / "outside")
    (folder / "within.md").symlink_to(folder / "sky.md")
    return folder


def folder_of(path: Path, **limits: int) -> Folder:
    return Folder(path, DocumentLimits(**limits))


def test_files_are_listed_without_hidden_ones_and_links(notes: Path) -> None:
    names = [file.name for file in folder_of(notes).files()]
    assert names == ["deep/er/sea.txt", "picture.bin", "report.pdf", "sky.md"]
    assert [file.name for file in folder_of(notes).files("deep")] == ["deep/er/sea.txt"]


async def test_texts_and_pdfs_are_read(notes: Path) -> None:
    folder = folder_of(notes)
    assert "Rayleigh" in await folder.text("sky.md")
    assert "Rayleigh" in await folder.text("./sky.md")
    assert "42 million" in await folder.text("report.pdf")


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("../outside/secret.txt", "leads out of the folder"),
        ("deep/../../outside/secret.txt", "leads out of the folder"),
        ("..\\outside\\secret.txt", "leads out of the folder"),
        ("/etc/passwd", "is an absolute path"),
        ("C:/Windows/win.ini", "is an absolute path"),
        ("out.txt", "is a link, or is not in the folder"),
        ("out/secret.txt", "is a link, or is not in the folder"),
        ("within.md", "is a link, or is not in the folder"),
        (".env", "is hidden"),
        (".git/config", "is hidden"),
        ("nothing.txt", "there is no such file"),
        ("deep", "is no file"),
        ("sky.md\0.txt", "is no path"),
        ("picture.bin", "is neither a PDF nor text"),
        ("x" * 5000, ""),
    ],
)
async def test_what_cannot_be_read_is_told_and_never_read(notes: Path, name: str, told: str) -> None:
    with pytest.raises(FolderError) as refused:
        await folder_of(notes).text(name)
    assert told in str(refused.value)
    assert SECRET not in str(refused.value)


@pytest.mark.parametrize("within", ["..", "out", ".git", "/", "nothing"])
async def test_a_listing_never_leads_out(notes: Path, within: str) -> None:
    with pytest.raises(FolderError):
        folder_of(notes).files(within)
    with pytest.raises(FolderError):
        await folder_of(notes).search("secret", within)


async def test_a_pipe_is_no_file(notes: Path) -> None:
    os.mkfifo(notes / "pipe")
    with pytest.raises(FolderError, match="is no file"):
        await folder_of(notes).text("pipe")
    assert "pipe" not in [file.name for file in folder_of(notes).files()]


async def test_a_folder_that_becomes_a_link_is_not_followed(notes: Path) -> None:
    folder = folder_of(notes)
    (notes / "plain").mkdir()
    (notes / "plain" / "secret.txt").write_text("harmless")
    assert await folder.text("plain/secret.txt") == "harmless"
    shutil.rmtree(notes / "plain")
    (notes / "plain").symlink_to(notes.parent / "outside")
    with pytest.raises(FolderError):
        await folder.text("plain/secret.txt")


async def test_the_best_passages_are_found_first(notes: Path) -> None:
    passages, left_out = await folder_of(notes).search("Which whale did Ahab hunt?")
    assert passages[0].file == "deep/er/sea.txt"
    assert "The whale Ahab hunted is white." in passages[0].text
    assert left_out == 1  # the picture
    (found, *_), _ = await folder_of(notes).search("quarterly result million")
    assert found.file == "report.pdf"
    assert (await folder_of(notes).search("zzz"))[0] == ()
    assert not any(SECRET in each.text for each in (await folder_of(notes).search("secret house"))[0])


async def test_a_search_needs_words(notes: Path) -> None:
    with pytest.raises(FolderError, match="has no words"):
        await folder_of(notes).search("?!")


async def test_a_changed_file_is_read_again(notes: Path) -> None:
    folder = folder_of(notes)
    assert "blue" in await folder.text("sky.md")
    (notes / "sky.md").write_text("At night the sky is black.")
    os.utime(notes / "sky.md", ns=(1, 1))
    assert await folder.text("sky.md") == "At night the sky is black."


async def test_a_file_that_is_too_large_is_told(notes: Path) -> None:
    (notes / "large.txt").write_text("x" * 1_100_000)
    with pytest.raises(FolderError, match="has more than 1 MiB"):
        await folder_of(notes, megabytes=1).text("large.txt")


def test_a_folder_that_is_none_is_told(notes: Path) -> None:
    with pytest.raises(FolderError, match="No such file"):
        folder_of(notes / "nothing")
    with pytest.raises(FolderError, match="is no folder"):
        folder_of(notes / "sky.md")


@asynccontextmanager
async def serving(folder: Path) -> AsyncIterator[Servers]:
    command = (sys.executable, "-m", "partsong", "mcp", "files", str(folder))
    servers = Servers({"notes": ToolServer(command)})
    try:
        yield servers
    finally:
        await servers.close()


async def used(servers: Servers, name: str, **arguments: object) -> Result:
    offer = (await servers.offers(["notes"]))["notes"]
    assert offer.problem == ""
    return await servers.use(next(tool for tool in offer.tools if tool.name == name), arguments)


async def test_the_command_serves_a_folder(notes: Path) -> None:
    async with serving(notes) as servers:
        assert "sky.md (" in (await used(servers, "list")).text
        found = await used(servers, "search", query="Rayleigh scattering")
        assert found.sources == ("file:sky.md",)
        read = await used(servers, "read", file="report.pdf")
        assert ("42 million" in read.text, read.sources) == (True, ("file:report.pdf",))
        part = await used(servers, "read", file="deep/er/sea.txt", start=30_000)
        assert "[characters 30,000 to 36,031 of 36,031]" in part.text
        for name in ("../outside/secret.txt", "out.txt"):
            refused = await used(servers, "read", file=name)
            assert refused.error
            assert (SECRET in refused.text, refused.sources) == (False, ())
        said = await asyncio.gather(*(used(servers, "read", file="sky.md") for _ in range(20)))
        assert all("Rayleigh" in each.text for each in said)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("folder", "x"), "mcp takes no arguments, or files FOLDER"),
        (("files",), "mcp takes no arguments, or files FOLDER"),
        (("files", "/no/such/folder"), "/no/such/folder: No such file or directory"),
        (("files", ".", "--recipe", "local"), "takes neither --recipe nor --store"),
    ],
)
def test_wrong_arguments_are_told(arguments: tuple[str, ...], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["mcp", *arguments]) != 0
    assert said in capfd.readouterr().err
