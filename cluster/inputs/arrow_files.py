"""Lists an Arrow file or stream whose rows hold the images. No image is read.

Arrow holds the images of a batch one behind the other, and beside them where each begins. So each image is a
range of bytes of the file, as in a tar: it is later read with one request.
"""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from cluster.inputs.arrow_messages import BATCH, DICTIONARY, SCHEMA, BadArrow, Message, messages
from cluster.inputs.container_file import Fetch
from cluster.inputs.container_listings import ContainerListing
from cluster.inputs.image_columns import is_image
from cluster.inputs.list_columns import MOST_ROW_BYTES
from cluster.inputs.locations import Container, Member
from cluster.inputs.read_ahead import ReadAhead
from cluster.inputs.table_options import ImageTable
from cluster.inputs.table_rows import LEFT_OUT, TableRows, check_rows, joined_rows
from cluster.inputs.unreadable import Unreadable
from cluster.storage.store import StoreError
from originality.contract.faults import MachineFault

_SMALL = 2**20
"""Bytes of a column in a batch that is read whatever its number of rows."""

Read = Callable[[int, int], bytes]


def arrow_schema(container: Container, fetch: Fetch) -> pa.Schema:
    """The columns of an Arrow file.

    Raises:
        Unreadable: it is no such file, or damaged.
        Outage, Refused, MachineFault: its store or disk fails.
    """
    read = _reader(container, fetch)
    try:
        return _schema(container.uri, next(messages(read, container.size), None))
    except BadArrow as error:
        raise Unreadable("unreadable", f"{container.uri} {error}") from None


def list_arrow(container: Container, how: ImageTable, fetch: Fetch) -> ContainerListing:
    """List the rows of a file. If it is damaged, it has a separate row, behind those that were found.

    Raises:
        Outage, Refused, MachineFault: its store or disk fails.
    """
    parts: list[pa.Table] = []
    skipped: Counter[str] = Counter()
    try:
        found = _parts(container, how, _reader(container, fetch), skipped)
        while (part := next(found, None)) is not None:  # one by one: what precedes damage is kept
            parts.append(part)
    except BadArrow as error:
        parts.append(ContainerListing.of_problem(container.uri, f"{container.uri} {error}").table)
    except Unreadable as error:
        parts.append(ContainerListing.of_problem(container.uri, error.message).table)
    return ContainerListing(joined_rows(parts), skipped)


def _reader(container: Container, fetch: Fetch) -> Read:
    return ReadAhead(lambda offset, length: fetch(Member(container, offset, length)), container.size)


def _schema(uri: str, message: Message | None) -> pa.Schema:
    """The schema in the first message."""
    if message is None or message.kind != SCHEMA:
        raise BadArrow("does not begin with a schema")
    try:
        schema = pa.ipc.read_schema(pa.py_buffer(message.head))
        list(schema.names)  # they may not be UTF-8
        return schema
    except Exception as error:  # given hostile bytes, pyarrow raises any
        raise Unreadable("unreadable", f"{uri}: {_first_line(error)}") from error


def _parts(container: Container, how: ImageTable, read: Read, skipped: Counter[str]) -> Iterator[pa.Table]:
    """The rows in parts.

    Raises:
        BadArrow, Unreadable: where the file is damaged.
    """
    found = messages(read, container.size)
    schema = _schema(container.uri, next(found, None))
    rows = TableRows(container.uri, schema, how, skipped)
    start = 0
    for message in found:
        if message.kind == DICTIONARY:
            raise Unreadable(
                "unreadable",
                f"{container.uri} has columns of dictionaries, which are read from Parquet only: write it as "
                "Parquet",
            )
        if message.kind != BATCH:
            continue
        if message.is_compressed:
            raise BadArrow("is compressed, which is read from Parquet only; write it without compression")
        try:
            batch = _Batch(message, schema)
            check_rows(container.uri, batch.rows, container.size)
            part = batch.table(start, how.image, rows, read, skipped)
        except (BadArrow, Unreadable, StoreError, MachineFault):
            raise
        except Exception as error:  # given hostile bytes, pyarrow raises any
            where = f"{container.uri}: batch at byte {message.body}"
            raise Unreadable("unreadable", f"{where}: {_first_line(error)}") from error
        start += batch.rows
        yield part


class _Batch:
    """A batch of rows, of which only the needed buffers are read.

    pyarrow lays it out over empty memory, which takes no room until it is written; then the buffers that are
    needed are filled in.
    """

    def __init__(self, message: Message, schema: pa.Schema) -> None:
        self._message = message
        self._memory = mmap.mmap(-1, max(1, len(message.head) + message.body_length))
        self._memory[: len(message.head)] = message.head
        whole = pa.py_buffer(self._memory)
        self._base = whole.address + len(message.head)
        self._batch = pa.ipc.read_record_batch(whole, schema)
        self.rows: int = self._batch.num_rows

    def table(self, start: int, image: str, rows: TableRows, read: Read, skipped: Counter[str]) -> pa.Table:
        """The rows of a listing; see :meth:`TableRows.table`."""
        column = self._batch.column(image)
        images = column.field("bytes") if is_image(column.type) else column
        wanted: list[pa.Buffer | None] = [images.buffers()[0], images.buffers()[1]]
        if images is not column:
            wanted.append(column.buffers()[0])
        columns = {}
        for kept in rows.columns:
            struct, dot, field = kept.name.rpartition(".")
            found = kept.name not in self._batch.schema.names and dot
            values = self._batch.column(struct).field(field) if found else self._batch.column(kept.name)
            buffers = [buffer for buffer in values.buffers() if buffer is not None]
            if sum(buffer.size for buffer in buffers) > max(_SMALL, self.rows * MOST_ROW_BYTES):
                skipped[LEFT_OUT] += self.rows
                values = pa.nulls(self.rows, pa.string())
            else:
                wanted += buffers
            columns[kept.name] = values
        self._fill(wanted, read)
        for values in columns.values():
            values.validate(full=True)
        names = list(columns)
        batch = pa.record_batch([columns[name] for name in names], names) if names else None
        return rows.table(start, self.rows, batch, self._ranges(column, images))

    def _fill(self, buffers: list[pa.Buffer | None], read: Read) -> None:
        """Read buffers, in their order in the file."""
        places = {(self._place(b), b.size) for b in buffers if b is not None and b.size}
        for place, size in sorted(places):
            data = read(self._message.body + place, size)
            if len(data) != size:
                raise BadArrow(f"is cut off in the batch at byte {self._message.body}")
            at = len(self._message.head) + place
            self._memory[at : at + size] = data

    def _place(self, buffer: pa.Buffer) -> int:
        """Offset of a buffer in the body."""
        place: int = buffer.address - self._base
        if not 0 <= place <= self._message.body_length - buffer.size:
            raise ValueError("a buffer is not in its batch")
        return place

    def _ranges(self, column: pa.Array, images: pa.Array) -> dict[str, pa.Array]:
        """Where each image is in the file, and how long; without for a row that holds none."""
        large = pa.types.is_large_binary(images.type)
        if not (large or pa.types.is_binary(images.type)):
            raise ValueError(f"images of type {images.type} are read from Parquet only")
        _, offsets, data = images.buffers()
        kind = np.int64 if large else np.int32
        ends = np.zeros(1, kind) if offsets is None or not self.rows else np.frombuffer(offsets, kind)
        ends = ends[: self.rows + 1].astype(np.int64)
        if len(ends) != self.rows + 1 and self.rows:
            raise ValueError("the offsets of the images are cut off")
        sizes = np.diff(ends)
        if (sizes < 0).any() or ends[0] < 0 or ends[-1] > (data.size if data is not None else 0):
            raise ValueError("the offsets of the images are damaged")
        first = self._message.body + (self._place(data) if data is not None else 0)
        valid = images.is_valid().to_numpy(zero_copy_only=False)
        if images is not column:
            valid &= column.is_valid().to_numpy(zero_copy_only=False)
        absent = pc.if_else(pa.array(valid), pa.scalar(None, pa.string()), "this row holds no image")
        return {
            "bytes": pa.array(sizes, pa.int64(), mask=~valid),
            "offset": pa.array(first + ends[:-1], pa.int64(), mask=~valid),
            "problem": absent,
        }


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
