"""PDFs for tests, written byte by byte: plain ones, and ones that are made to break a reader."""

import zlib
from collections.abc import Sequence

PIXEL = b"<< /Type /XObject /Subtype /Image /Width 1 /Height 1 /ColorSpace /DeviceGray /BitsPerComponent 8 /Length 1 >>"


def pdf(*pages: str, pictures: int = 0, name: bytes = b"Helvetica") -> bytes:
    """A PDF with a page for each text, and so many pictures on the first page."""
    contents = [_content(text, pictures if index == 0 else 0) for index, text in enumerate(pages)]
    return with_contents(contents, name=name)


def with_contents(contents: Sequence[bytes], *, filters: bytes = b"", name: bytes = b"Helvetica") -> bytes:
    """A PDF with a page for each content stream. `filters` are entries of the streams' dictionaries."""
    count = len(contents)
    kids = b" ".join(b"%d 0 R" % (5 + 2 * index) for index in range(count))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count %d /Kids [%s] >>" % (count, kids),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /%s >>" % name,
        PIXEL + b"\nstream\n\x80\nendstream",
    ]
    for index, content in enumerate(contents):
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R "
            b"/Resources << /Font << /F 3 0 R >> /XObject << /P 4 0 R >> >> >>" % (6 + 2 * index)
        )
        objects.append(b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(content), filters, content))
    return file(objects)


def file(objects: Sequence[bytes], trailer: bytes = b"") -> bytes:
    """The file of these objects, of which the first is the catalog."""
    written = bytearray(b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n")
    offsets = []
    for number, content in enumerate(objects, 1):
        offsets.append(len(written))
        written += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    start = len(written)
    written += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    for offset in offsets:
        written += b"%010d 00000 n \n" % offset
    written += b"trailer\n<< /Size %d /Root 1 0 R %s >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, trailer, start)
    return bytes(written)


def encrypted() -> bytes:
    """A PDF that opens with a password only, which nobody knows."""
    whole = b"<" + b"41" * 32 + b">"
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count 0 /Kids [] >>",
        b"<< /Filter /Standard /V 2 /R 3 /Length 128 /P -4 /O %s /U %s >>" % (whole, whole),
    ]
    return file(objects, b"/Encrypt 3 0 R /ID [<00112233445566778899aabbccddeeff> <00112233445566778899aabbccddeeff>]")


def endless_tree() -> bytes:
    """A PDF whose tree of pages contains itself, and says that it has a billion pages."""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count 1000000000 /Kids [2 0 R 3 0 R] >>",
        b"<< /Type /Pages /Parent 2 0 R /Count 1000000000 /Kids [2 0 R] >>",
    ]
    return file(objects)


def bomb(megabytes: int, layers: int = 2) -> bytes:
    """A PDF with a page that is small in the file, and this large once its stream is inflated."""
    content = (
        b"BT /F 12 Tf 1 0 0 1 72 700 Tm " + b"(AAAAAAAAAAAAAAAAAAAA) Tj " * (megabytes * 1024 * 1024 // 26) + b" ET"
    )
    for _ in range(layers):
        content = zlib.compress(content, 9)
    filters = b"/Filter [%s]" % (b" /FlateDecode" * layers)
    return with_contents([content], filters=filters)


def forms_in_forms(depth: int) -> bytes:
    """A PDF whose page draws a form, which draws the next one twice, and so on."""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Count 1 /Kids [3 0 R] >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 9 9] /Contents 4 0 R /Resources << /XObject << /X 5 0 R >> >> >>",
        b"<< /Length 5 >>\nstream\n/X Do\nendstream",
    ]
    for level in range(depth):
        following = 6 + level if level < depth - 1 else 5
        objects.append(
            b"<< /Type /XObject /Subtype /Form /BBox [0 0 9 9] /Length 12 "
            b"/Resources << /XObject << /X %d 0 R >> >> >>\nstream\n/X Do /X Do \nendstream" % following
        )
    return file(objects)


def _content(text: str, pictures: int) -> bytes:
    lines = [
        line.encode("latin-1").replace(b"\\", b"\\\\").replace(b"(", b"\\(").replace(b")", b"\\)")
        for line in text.split("\n")
    ]
    words = b"BT /F 12 Tf 14 TL 72 720 Td " + b" ".join(b"(%s) Tj T*" % line for line in lines) + b" ET"
    return b"q 9 0 0 9 9 9 cm /P Do Q\n" * pictures + words
