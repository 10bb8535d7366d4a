"""Reads a PDF from standard input and prints its text as JSON. A program of its own, which imports nothing of ours.

    python -I extract.py PAGES CHARACTERS MEMORY SECONDS PACKAGES < file.pdf

A PDF is hostile input to a large parser in C++, so this process bounds its own memory and time, opens no more files,
starts no other process and writes none before it reads the first byte. The caller starts it with an empty environment:
there is no key in it to be found. PACKAGES is the folder of the library.

Prints one object: `pages` (of the PDF), `texts` (of each page that was read), `pictures` and `attachments` (numbers of
what has no text), or `error` with one of "missing", "encrypted", "damaged", "memory", "long".
"""

import json
import re
import sys
from contextlib import suppress
from typing import Any

PASSWORD = 4  # FPDF_ERR_PASSWORD: the file opens with a password only
SECURITY = 5  # FPDF_ERR_SECURITY: it is encrypted in a way that PDFium does not know
FILES = 64  # open files: the library's own, and those of its import
DEPTH = 4  # of forms in forms, in which pictures are counted
PICTURES = 1000  # of a page: no more are counted
# Control characters, and PDFium's marks for characters that it could not name.
UNREADABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")


def bound(memory: int, seconds: int) -> None:
    """Bound what this process may use, where the system can do that (Windows cannot, and macOS ignores some)."""
    try:
        import resource
    except ImportError:
        return
    size = memory * 1024 * 1024
    for name, limit in (
        ("RLIMIT_AS", size),
        ("RLIMIT_CPU", seconds),
        ("RLIMIT_NOFILE", FILES),
        ("RLIMIT_FSIZE", 0),
        ("RLIMIT_CORE", 0),
        ("RLIMIT_NPROC", 0),
    ):
        with suppress(AttributeError, ValueError, OSError):
            resource.setrlimit(getattr(resource, name), (limit, limit))


def cleaned(text: str) -> str:
    """The text of a page without control characters. PDFium marks a hyphen at a line's end with U+0002."""
    lines = UNREADABLE.sub("", text.replace("\r\n", "\n").replace("\r", "\n")).split("\n")
    return "\n".join(line.rstrip() for line in lines).strip()


def extract(data: bytes, pages: int, characters: int) -> dict[str, Any]:
    """What the PDF says, page by page, as far as the limits allow."""
    import pypdfium2
    from pypdfium2.raw import FLAT_NORMALDISPLAY, FLATTEN_SUCCESS, FPDF_PAGEOBJ_IMAGE, FPDFPage_Flatten

    document = pypdfium2.PdfDocument(data)
    texts: list[str] = []
    pictures, length = 0, 0
    for index in range(min(len(document), pages)):
        page = document[index]
        objects = page.get_objects(filter=[FPDF_PAGEOBJ_IMAGE], max_depth=DEPTH)
        pictures += sum(1 for _ in zip(range(PICTURES), objects, strict=False))
        # What was filled into a form, or written on the page as a note, becomes text of the page.
        if FPDFPage_Flatten(page, FLAT_NORMALDISPLAY) == FLATTEN_SUCCESS:
            page.close()
            page = document[index]
        reader = page.get_textpage()
        length += reader.count_chars()
        if length > characters:
            break
        texts.append(cleaned(reader.get_text_bounded()))
        reader.close()
        page.close()
    if len(document) and not texts:
        return {"error": "long"}
    return {
        "pages": len(document),
        "texts": texts,
        "pictures": pictures,
        "attachments": document.count_attachments(),
    }


def extracted(data: bytes, pages: int, characters: int) -> dict[str, Any]:
    """What the PDF says, or why nobody can tell."""
    try:
        return extract(data, pages, characters)
    except ImportError:
        return {"error": "missing"}
    except MemoryError:
        return {"error": "memory"}
    except Exception as problem:  # noqa: BLE001 (whatever it is, the file cannot be read, and the caller must hear so)
        code = getattr(problem, "err_code", None)
        return {"error": "encrypted" if code in (PASSWORD, SECURITY) else "damaged"}


def main() -> None:
    """Read, and print."""
    pages, characters, memory, seconds = map(int, sys.argv[1:5])
    sys.path.append(sys.argv[5])  # where the library is
    bound(memory, seconds)
    told = json.dumps(extracted(sys.stdin.buffer.read(), pages, characters), ensure_ascii=False)
    sys.stdout.buffer.write(told.encode("utf-8", "replace"))
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
