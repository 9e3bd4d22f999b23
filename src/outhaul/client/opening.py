"""Files of an export → Arrow: the same types whatever the format, in batches, so that memory holds a few at a time.

Times are timestamps in UTC to the ms, durations and integers 64-bit, objects (extras) and identifiers text; the
columns are those of the manifest, in its order.
"""

from __future__ import annotations

import importlib
import types
from typing import TYPE_CHECKING, Any

import msgspec

from outhaul.errors import Damaged, OuthaulError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    import pandas as pd  # type: ignore[import-untyped]
    import pyarrow as pa

    from outhaul.client.files import Downloaded
    from outhaul.wire import Manifest

_PIECE_BYTES = 4 * 1024 * 1024
_BLOCK_BYTES = 8 * 1024 * 1024
"""How much CSV is read at a time; no row may be longer."""
_BATCH_ROWS = 32 * 1024
_TIMES: dict[str, Any] = {"ms": int | None, "rfc3339": str | None}
_JSON_TYPES: dict[str, Any] = {
    "string": str | None,
    "identifier": str | int | None,
    "json": msgspec.Raw,
    "duration": int | None,
    "integer": int | None,
    "boolean": bool | None,
}


def library(name: str, *also: str) -> Any:
    """An optional library.

    Raises:
        OuthaulError: it, or one of the others that go with it, is not installed.
    """
    try:
        for other in also:
            importlib.import_module(other)
        return importlib.import_module(name)
    except ImportError as error:
        needed = " ".join((name.partition(".")[0], *also))
        raise OuthaulError(
            f"To open an export this way, Python needs {error.name}.",
            hint=f"`pip install {needed}`, or `download()` and open the files with something else.",
            code="library_missing",
        ) from error


def table(downloaded: Downloaded) -> pa.Table:
    """All rows.

    Raises:
        Damaged: they are not as many as were exported, or cannot be read.
    """
    arrow = library("pyarrow")
    return arrow.Table.from_batches(batches(downloaded), schema=_schema(arrow, downloaded.manifest))


def to_pandas(rows: pa.Table) -> pd.DataFrame:
    """The same for pandas. A number or a boolean that is missing stays missing, and its column what it is."""
    arrow, pandas = library("pyarrow"), library("pandas")
    nullable = {arrow.int64(): pandas.Int64Dtype(), arrow.bool_(): pandas.BooleanDtype()}
    return rows.to_pandas(types_mapper=nullable.get)


def batches(downloaded: Downloaded) -> Iterator[pa.RecordBatch]:
    """All rows, a few MiB at a time.

    Raises:
        Damaged: they are not as many as were exported, or cannot be read.
    """
    arrow = library("pyarrow")
    manifest = downloaded.manifest
    read = {"parquet": _parquet, "csv": _csv}.get(manifest.format, _json)
    schema = _schema(arrow, manifest)
    rows = 0
    for path in downloaded.paths:
        try:
            for batch in read(path, manifest, schema):
                rows += batch.num_rows
                yield batch
        except (arrow.ArrowException, msgspec.MsgspecError, OSError) as error:
            raise Damaged(f"{path} cannot be read: {error}", hint="Download it again.") from error
    if rows != manifest.rows:
        raise Damaged(
            f"The files of the export {manifest.task_id} hold {rows} rows, not the {manifest.rows} exported.",
            hint="Download them again.",
        )


def _schema(arrow: Any, manifest: Manifest) -> pa.Schema:
    stored = {
        "time": arrow.timestamp("ms", "UTC"),
        "duration": arrow.int64(),
        "integer": arrow.int64(),
        "boolean": arrow.bool_(),
    }
    return arrow.schema(
        [
            arrow.field(column.name, stored.get(column.type, arrow.string()), column.nullable)
            for column in manifest.schema
        ]
    )


def _parquet(path: Path, manifest: Manifest, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    names = [column.name for column in manifest.schema]
    with library("pyarrow.parquet").ParquetFile(path) as file:
        for batch in file.iter_batches(_BATCH_ROWS, columns=names):
            yield batch.select(names).cast(schema)


def _csv(path: Path, manifest: Manifest, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    arrow, csv = library("pyarrow"), library("pyarrow.csv")
    is_number = manifest.time_format == "ms"
    written = {
        field.name: arrow.int64() if is_number and arrow.types.is_timestamp(field.type) else field.type
        for field in schema
    }
    with _opened(path, manifest.compression) as stream:
        reader = csv.open_csv(
            stream,
            read_options=csv.ReadOptions(block_size=_BLOCK_BYTES),
            parse_options=csv.ParseOptions(newlines_in_values=True),
            # Nothing is no value; the empty text is in quotes.
            convert_options=csv.ConvertOptions(
                column_types=written,
                include_columns=list(written),
                null_values=[""],
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
            ),
        )
        for batch in reader:
            yield batch.cast(schema)


def _json(path: Path, manifest: Manifest, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    arrow = library("pyarrow")
    shapes = {**_JSON_TYPES, "time": _TIMES[manifest.time_format]}
    # Members are numbered, for a column may be called what is no name in Python.
    labels = {f"c{index}": column.name for index, column in enumerate(manifest.schema)}
    shape = msgspec.defstruct(
        "Row",
        [
            (label, shapes[column.type], msgspec.Raw() if column.type == "json" else None)
            for label, column in zip(labels, manifest.schema, strict=True)
        ],
        rename=labels,
    )
    readers = [_READERS.get(column.type) for column in manifest.schema]
    with _opened(path, manifest.compression) as stream:
        for rows in _rows(stream, shape, array=manifest.format == "json"):
            values = zip(*map(msgspec.structs.astuple, rows), strict=True)
            columns = [
                map(read, column) if read else column for read, column in zip(readers, values, strict=True)
            ]
            yield arrow.record_batch(
                [
                    _array(arrow, list(column), field.type)
                    for column, field in zip(columns, schema, strict=True)
                ],
                schema=schema,
            )


def _array(arrow: Any, values: list[Any], wanted: Any) -> Any:
    if arrow.types.is_timestamp(wanted):
        return arrow.array(values).cast(wanted)
    return arrow.array(values, wanted)


def _rows(stream: Any, shape: type, *, array: bool) -> Iterator[list[Any]]:
    """Rows of JSON, a piece of the file at a time: there is one object on each line, in an array or by itself."""
    one: msgspec.json.Decoder[Any] = msgspec.json.Decoder(shape)
    many: msgspec.json.Decoder[Any] = msgspec.json.Decoder(types.GenericAlias(list, shape))
    for lines in _whole_lines(stream):
        inner = lines.lstrip(b"[\n").rstrip(b"],\n") if array else lines
        rows = many.decode(b"[" + inner + b"]") if array else one.decode_lines(inner)
        if rows:
            yield rows


def _whole_lines(stream: Any) -> Iterator[bytes]:
    begun = b""
    while piece := stream.read(_PIECE_BYTES):
        end = piece.rfind(b"\n") + 1
        if end:
            yield begun + piece[:end]
            begun = piece[end:]
        else:
            begun += piece
    if begun:
        yield begun


def _opened(path: Path, compression: str) -> Any:
    return library("pyarrow").input_stream(path, compression=None if compression == "none" else compression)


def _object_text(raw: msgspec.Raw) -> bytes | None:
    text = bytes(raw)
    return text if text not in {b"", b"null"} else None


def _identifier_text(value: str | int | None) -> str | None:
    return None if value is None else str(value)


_READERS: dict[str, Callable[[Any], Any]] = {"json": _object_text, "identifier": _identifier_text}
"""What is made of a value of JSON where it is not taken as it is."""
