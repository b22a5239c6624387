"""Reads images out of Parquet files, each row group once while its rows come in order.

A row group's column of images is read forward, in a few large requests, and its last rows are kept: the
inputs that a worker reads next are usually there, or behind them. A row that was passed costs to read its
group again from the start.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cluster.inputs.container_file import ContainerFile, Fetch
from cluster.inputs.image_columns import is_image
from cluster.inputs.locations import Cell, Container
from cluster.inputs.unreadable import Unreadable

_MOST_STREAMS = 2
"""Row groups that are open at once: threads may still read the last rows of one when the next begins."""
_MOST_FILES = 16
"""Files whose footers are kept."""
_WINDOW = 64 * 2**20
"""Bytes of rows that are kept behind the last one read; one row is kept in any case."""
_BATCH_ROWS = 1
"""Rows that are decoded at once. A small file may hold one large image in very many rows, so the average size
says nothing about that of some."""
_REQUEST_BYTES = 32 * 2**20
"""Bytes of one request, unless a page is larger."""
_BESIDE = 2**20
"""Bytes of a row group of one row that may be of other columns."""


class ParquetCells:
    """Reads cells; threads may share it."""

    def __init__(self, fetch: Fetch) -> None:
        self._fetch = fetch
        self._footers: OrderedDict[Container, _Footer] = OrderedDict()
        self._streams: OrderedDict[tuple[Container, str, int], _Stream] = OrderedDict()
        self._lock = threading.Lock()

    def read(self, uri: str, cell: Cell, check: Callable[[int], None]) -> bytes:
        """The bytes of one image.

        Args:
            uri: of the input, for messages.
            check: is called with the size before the bytes are copied, and raises to refuse it.

        Raises:
            Unreadable: the file is damaged, has changed since it was listed, or the row has no image.
            Outage, Refused, MachineFault: a store or disk fails.
        """
        footer = self._footer(cell.container)
        group, row = footer.place(cell.row)
        key = (cell.container, cell.column, group)
        with self._lock:
            stream = self._streams.setdefault(key, _Stream(cell, group, footer, self._fetch))
            self._streams.move_to_end(key)
            while len(self._streams) > _MOST_STREAMS:
                self._streams.popitem(last=False)
        return stream.read(uri, row, check)

    def _footer(self, container: Container) -> _Footer:
        with self._lock:
            if container in self._footers:
                self._footers.move_to_end(container)
                return self._footers[container]
        footer = _Footer(container, self._fetch)
        with self._lock:
            self._footers[container] = footer
            while len(self._footers) > _MOST_FILES:
                self._footers.popitem(last=False)
        return footer


class _Footer:
    """What a file says about its row groups."""

    def __init__(self, container: Container, fetch: Fetch) -> None:
        file = ContainerFile(container, fetch)
        with file.errors(container.uri):
            opened = pq.ParquetFile(pa.PythonFile(file, "r"))
            self.metadata = opened.metadata
            self.schema = opened.schema_arrow
            counts = [opened.metadata.row_group(k).num_rows for k in range(opened.metadata.num_row_groups)]
        self._uri = container.uri
        self._starts = np.cumsum([0, *counts])

    def place(self, row: int) -> tuple[int, int]:
        """The row group of a row, and its number in there."""
        if not 0 <= row < self._starts[-1]:
            raise Unreadable("unreadable", f"{self._uri} has {self._starts[-1]} rows, and no row {row}")
        group = int(np.searchsorted(self._starts, row, "right")) - 1
        return group, row - int(self._starts[group])


class _Stream:
    """The images of one row group, read forward."""

    def __init__(self, cell: Cell, group: int, footer: _Footer, fetch: Fetch) -> None:
        self._cell = cell
        self._group = group
        self._footer = footer
        self._fetch = fetch
        self._lock = threading.Lock()
        self._clear()

    def _clear(self) -> None:
        self._batches: Iterator[pa.Array] | None = None
        self._window: OrderedDict[int, pa.Scalar] = OrderedDict()
        """Images by row, without gaps."""
        self._window_bytes = 0
        self._next = 0
        """The row that is decoded next."""
        self._broken: Unreadable | None = None
        """Why no row from ``_next`` on can be read."""

    def read(self, uri: str, row: int, check: Callable[[int], None]) -> bytes:
        """The bytes of a row; see :meth:`ParquetCells.read`."""
        with self._lock:
            image = self._find(row, check)
        if not image.is_valid:
            raise Unreadable("missing", f"{uri}: this row holds no image", is_final=True)
        data: memoryview = memoryview(image.as_buffer())
        check(len(data))
        return bytes(data)

    def _find(self, row: int, check: Callable[[int], None]) -> pa.Scalar:
        if row < self._next - len(self._window):
            self._clear()
        try:
            while row >= self._next:
                self._read_next(check)
        except Unreadable:
            raise
        except BaseException:
            self._clear()  # an outage, for example: the stream stands anywhere
            raise
        return self._window[row]

    def _read_next(self, check: Callable[[int], None]) -> None:
        """Read the next row into the window.

        Raises:
            Unreadable: it is damaged.
        """
        if self._broken is not None:
            raise self._broken
        if self._batches is None:
            self._batches = self._opened(check)
        try:
            images = next(self._batches)
        except StopIteration:
            self._broken = Unreadable("unreadable", f"{self._where} ends before its last row")
            raise self._broken from None
        except Unreadable as error:
            self._broken = error
            raise
        self._window[self._next] = images[0]
        self._window_bytes += _size(images[0])
        self._next += 1
        while len(self._window) > 1 and self._window_bytes > _WINDOW:
            self._window_bytes -= _size(self._window.popitem(last=False)[1])

    @property
    def _where(self) -> str:
        return f"{self._cell.container.uri}: row group {self._group}"

    def _opened(self, check: Callable[[int], None]) -> Iterator[pa.Array]:
        """The images in batches.

        Raises:
            Unreadable: they cannot be read.
            Rejection: the only image is too large, by what the footer says.
        """
        name = self._cell.column
        place = self._footer.schema.get_field_index(name)
        if place < 0:
            raise Unreadable("unreadable", f"{self._where} has no column {name!r}")
        leaf = f"{name}.bytes" if is_image(self._footer.schema.field(place).type) else name
        file = ContainerFile(self._cell.container, self._fetch)
        with file.errors(self._where):
            group = self._footer.metadata.row_group(self._group)
            rows, total = group.num_rows, max(1, group.total_byte_size)
            opened = pq.ParquetFile(
                pa.PythonFile(file, "r"),
                metadata=self._footer.metadata,
                buffer_size=min(total, _REQUEST_BYTES),
                pre_buffer=False,
                page_checksum_verification=True,
            )
        if rows == 1 and total > _BESIDE:  # the size of others is known when their page is read
            check(total - _BESIDE)
        return self._images(file, opened, leaf)

    def _images(self, file: ContainerFile, opened: pq.ParquetFile, leaf: str) -> Iterator[pa.Array]:
        with file.errors(self._where):
            for batch in opened.iter_batches(
                _BATCH_ROWS, row_groups=[self._group], columns=[leaf], use_threads=False
            ):
                column = batch.column(0)
                yield pc.struct_field(column, "bytes") if pa.types.is_struct(column.type) else column


def _size(image: pa.Scalar) -> int:
    """Bytes of an image."""
    return len(image.as_buffer()) if image.is_valid else 0
