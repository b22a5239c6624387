"""Finds damaged and missing files in a model's folder before a library reads them.

A library's own error about a damaged file does not name the file, or there is no error: a tokenizer without
its merges loads, and then knows no word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterable
from itertools import chain
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from originality.contract.faults import first_line
from originality.contract.wrong_content import wrong_content

SAFETENSORS = ".safetensors"
_OUTLINE = "outline.json"
"""Present in a folder whose weights are listed but not on this machine (originality.contract.outline)."""
_PLAIN_TYPES = frozenset({"F16", "BF16", "F32", "F64", "I64", "I32", "BOOL"})
"""Types of tensors that are not quantised; the integers hold positions."""
_INDEX = re.compile(r".+\.safetensors\.index(\..+)?\.json")
_SHARD = re.compile(r"(.+)-\d+-of-\d+(\..+)?\.safetensors")
_BPE = ("vocab.json", "merges.txt")
_BOTH = "tokenizer.json"
"""One file that holds the content of both above."""


def damage(file: Path) -> str | None:
    """What is wrong with a file, as the end of "FILE ..."; None if nothing is found.

    Raises:
        OSError: it cannot be read.
    """
    if file.is_symlink() and not file.exists():
        return "is a link to a missing file; fetch it again"
    if file.is_dir():
        return "is a folder in place of a file; fetch it again"
    with file.open("rb") as handle:
        found = wrong_content(handle.read(256))
    if found:
        return found
    if file.suffix == SAFETENSORS:
        return _of_weights(file)
    if file.suffix == ".json":
        return _of_json(file)
    if file.name == "merges.txt":
        return _of_merges(file)
    return None


def _of_weights(file: Path) -> str | None:
    try:
        with safe_open(file, framework="pt") as opened:
            types = {opened.get_slice(name).get_dtype() for name in opened.keys()}  # noqa: SIM118
    except SafetensorError as error:
        return f"is cut off or damaged ({first_line(error)}); fetch it again"
    if odd := sorted(types - _PLAIN_TYPES):
        return f"holds weights in {odd[0]}, quantised; use weights in fp16, bf16 or fp32"
    return None


def _of_json(file: Path) -> str | None:
    try:
        read = json.loads(file.read_text("utf-8"))
    except ValueError as error:
        return f"is damaged ({first_line(error)}); fetch it again"
    if not isinstance(read, dict):
        return "is damaged (it holds no JSON object); fetch it again"
    return None


def _of_merges(file: Path) -> str | None:
    """Each line must hold two tokens that merge into one; the first line may name a version instead."""
    try:
        lines = file.read_text("utf-8").splitlines()
    except UnicodeDecodeError:
        return "is damaged (not UTF-8 text); fetch it again"
    for number, line in enumerate(lines, 1):
        if len(line.split()) != 2 and line.strip() and not line.startswith("#version"):
            return f"is damaged (line {number} is not two tokens); fetch it again"
    return None


def damaged_part(folder: Path, weights: Container[str] = ()) -> str | None:
    """The first damaged file of a folder, and what is wrong with it; None if none is.

    Args:
        weights: names of the weight files that are used; others are not checked.
    """
    for file in sorted(folder.iterdir()):
        read = file.suffix in (".json", ".txt") or (file.suffix == SAFETENSORS and file.name in weights)
        if read and (found := damage(file)):
            return f"{file} {found}"
    return None


def missing_shard(folder: Path) -> str | None:
    """The shard of weights, or the index of shards, that is missing; None if none is."""
    if (folder.parent / _OUTLINE).exists():
        return None
    names = {file.name for file in folder.iterdir() if file.exists()}
    weights = {name for name in names if name.endswith(SAFETENSORS)}
    indexed: set[str] = set()
    for index in sorted(name for name in names if _INDEX.fullmatch(name)):
        listed = json.loads((folder / index).read_text("utf-8")).get("weight_map")
        if not isinstance(listed, dict) or not listed:
            return f"{folder / index} lists no weight files; fetch it again"
        shards = set(map(str, listed.values()))
        gone = sorted(shards - names)
        if gone and (shards & names or not weights):  # otherwise it belongs to a variant that was not fetched
            return f"{folder} lacks {gone[0]}, which {index} names; fetch the complete folder"
        indexed |= shards
    loose = sorted(name for name in weights - indexed if _SHARD.fullmatch(name))
    if loose and all(map(_SHARD.fullmatch, weights)):
        return f"{folder} has {loose[0]} and no index of such files; fetch the complete folder"
    return None


def index_among(names: Iterable[str], stem: str, variant: str | None) -> str | None:
    """Name of the index of sharded weights, of a variant or the plain ones; None if there is none."""
    mark = f".{variant}." if variant else f"{stem}.safetensors.index.json"
    found = (name for name in names if _INDEX.fullmatch(name) and name.startswith(f"{stem}."))
    return next((name for name in found if mark in name), None)


def incomplete_tokenizer(folder: Path, *, bert: bool) -> str | None:
    """What a tokenizer's folder lacks; None if it is complete."""
    here = {file.name for file in folder.iterdir()}
    words = ("vocab.txt",) if bert else _BPE
    needed = (_BOTH,) if _BOTH in here else words
    if missing := [name for name in (*needed, "tokenizer_config.json") if name not in here]:
        either = "" if _BOTH in here else f"; it must hold {' and '.join(words)}, or {_BOTH}"
        return f"tokenizer {folder} lacks {', '.join(missing)}{either}"
    if found := bad_words(folder, bert=bert):
        return f"tokenizer {folder}: {found}"
    return None


def bad_words(folder: Path, *, bert: bool = False) -> str | None:
    """What is wrong with the vocabulary and merges of a tokenizer's folder; None if nothing is found.

    If the folder has both forms, both are checked: libraries differ in which one they read.
    """
    here = {file.name for file in folder.iterdir()}
    if _BOTH in here and (found := _of_tokenizer(_object(folder / _BOTH).get("model"), bert=bert)):
        return f"{_BOTH} {found}; fetch it again"
    if bert or not here.issuperset(_BPE):
        return None
    lines = (folder / "merges.txt").read_text("utf-8").splitlines()
    merges = [line.split() for line in lines if line.strip() and not line.startswith("#version")]
    if lost := _lost_merge(_object(folder / "vocab.json"), merges):
        return f"vocab.json and merges.txt do not fit each other ({lost}); fetch both"
    return None


def _object(file: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads(file.read_text("utf-8"))
    return read


def _of_tokenizer(model: Any, *, bert: bool) -> str | None:
    """What is wrong with the "model" of a tokenizer.json, as the end of "tokenizer.json ..."."""
    wanted = "WordPiece" if bert else "BPE"
    if not isinstance(model, dict):
        return "is damaged (it holds no vocabulary)"
    if (kind := model.get("type", wanted)) != wanted:
        return f"is of kind {kind!r}, but the text encoder reads tokens of {wanted}"
    if not isinstance(model.get("vocab"), dict):
        return "is damaged (it holds no vocabulary)"
    if bert:
        return None if model["vocab"] else "has an empty vocabulary"
    merges = [merge.split() if isinstance(merge, str) else merge for merge in model.get("merges") or ()]
    for number, merge in enumerate(merges, 1):
        if not (isinstance(merge, list) and len(merge) == 2 and all(isinstance(m, str) for m in merge)):
            return f"is damaged (merge {number} is not two tokens)"
    lost = _lost_merge(model["vocab"], merges)
    return f"has a vocabulary and merges that do not fit each other ({lost})" if lost else None


def _lost_merge(vocabulary: dict[str, Any], merges: list[list[str]]) -> str | None:
    """A merge whose token the vocabulary lacks, or a token that no merge makes.

    Either is what remains of a file that was cut off between two lines, where each line by itself is valid.
    """
    if not vocabulary:
        return "the vocabulary is empty"
    if wrong := next((token for token, number in vocabulary.items() if type(number) is not int), None):
        return f"the number of {wrong!a} is {vocabulary[wrong]!r}"
    made = {"".join(merge) for merge in merges}
    if unknown := min({*made, *chain(*merges)} - vocabulary.keys(), default=None):
        return f"the vocabulary lacks {unknown!a} of a merge"
    long = (token for token in vocabulary if len(token.removesuffix("</w>")) > 1 and token not in made)
    if orphan := min((token for token in long if not re.fullmatch("<.*>", token)), default=None):
        return f"no merge makes {orphan!a} of the vocabulary"
    return None
