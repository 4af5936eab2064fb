"""Reading and writing YAML as recipes need it: with line numbers, and without YAML 1.1's surprises."""

from __future__ import annotations

import re
from collections.abc import Hashable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from sharpseq.errors import UserError

KeyPath = tuple[str | int, ...]

_MOST_BYTES = 256 * 1024
"""Bytes that a file may have; shipped recipes have about three thousand."""

_MERGE = "tag:yaml.org,2002:merge"
# PyYAML reads YAML 1.1, where `no` is false, `010` is 8, `1:30` is 90, a day is a date, `=` is an error and `1e-3` is a
# text. These are the readings of YAML 1.2, and digits may be parted by `_`.
_DIGITS = "[0-9](?:_?[0-9])*"
_SCALARS = {
    "bool": (r"true|True|TRUE|false|False|FALSE", "tTfF"),
    "int": (rf"[-+]?{_DIGITS}|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    "float": (
        rf"[-+]?(?:{_DIGITS}\.(?:{_DIGITS})?|\.[0-9]+|{_DIGITS}(?=[eE]))(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
}
_READ_OTHERWISE = {f"tag:yaml.org,2002:{name}" for name in (*_SCALARS, "timestamp", "value")}
_SURROGATE = re.compile("[\ud800-\udfff]")


class _Loader(yaml.SafeLoader):
    """The safe loader, with the numbers and truth values of YAML 1.2, and with texts as the keys of all mappings."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        """Return a mapping whose keys are texts, as they are written: a data set may be called `010` or `true`."""
        self.flatten_mapping(node)
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a text", key.start_mark)
        return {self.construct_scalar(key): self.construct_object(value, deep=deep) for key, value in node.value}

    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """Return what a node means; values that Python refuses, such as a number of 5,000 digits, are not YAML."""
        try:
            return super().construct_object(node, deep=deep)
        except ValueError as error:
            raise yaml.constructor.ConstructorError(None, None, str(error), node.start_mark) from error

    def construct_scalar(self, node: Any) -> str:
        r"""Return a text of whole characters; escapes such as ``\ud83d`` could write half of one."""
        text = str(super().construct_scalar(node))
        if half := _SURROGATE.search(text):
            problem = f"half a character, the lone surrogate \\u{ord(half[0]):04x}; write the whole character"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return text

    def construct_yaml_int(self, node: Any) -> int:
        """Return a whole number: decimal, ``0o`` octal or ``0x`` hexadecimal."""
        text = self.construct_scalar(node)
        return int(text, 0) if text[1:2] in ("o", "x") else int(text)


class _Dumper(yaml.SafeDumper):
    """The safe dumper, which quotes a text that a reader of YAML 1.1 or 1.2 would take for something else."""

    def ignore_aliases(self, data: Any) -> bool:
        """Write out repeated values instead of anchors, so that a run's recipe can be read from top to bottom."""
        return True


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in _READ_OTHERWISE]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)
for _class in (_Loader, _Dumper):
    for _name, (_pattern, _first) in _SCALARS.items():
        _class.add_implicit_resolver(f"tag:yaml.org,2002:{_name}", re.compile(f"^(?:{_pattern})$"), list(_first))


@dataclass(frozen=True)
class Places:
    """The places of a recipe's keys: a line of its file, or the override that set them.

    Two of them are always equal, so that recipes with the same content are.

    Args:
        where: Name of the file.
        lines: A line number, or the place in words, by key; positions in lists and other numbers written out.
    """

    where: str = field(default="", compare=False)
    lines: dict[tuple[str, ...], int | str] = field(default_factory=dict, compare=False)

    def of(self, path: KeyPath) -> str:
        """Return the place of a key, or of the nearest enclosing key that has one."""
        keys = tuple(map(str, path))
        line = next((self.lines[keys[:end]] for end in range(len(keys), 0, -1) if keys[:end] in self.lines), None)
        if line is None:
            return self.where
        return line if isinstance(line, str) else f"{self.where}:{line}"


def read_yaml_text(path: Path) -> str:
    """Return the text of a YAML file, after seeing that it can be one: YAML takes minutes and gigabytes for others.

    Raises:
        UserError: If it cannot be read, is too large or is not UTF-8.
    """
    try:
        size = path.stat().st_size
        if size > _MOST_BYTES:
            raise UserError(
                f"{path} has {size:,} bytes, which is too much for a recipe or configuration; give its YAML file"
            )
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise UserError(f"{path}:{line}: not valid UTF-8; save the file as UTF-8") from error
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error


def read_yaml(text: str, *, where: str) -> tuple[Any, Places]:
    """Return the content of a YAML text and the place of each key.

    Anchors and merge keys are resolved, and nothing is shared between the places that refer to the same anchor.

    Args:
        text: One YAML document.
        where: Name of the text for errors.

    Raises:
        UserError: If it is not YAML, has a key twice, refers to itself, or is nested too deeply.
    """
    try:
        node = yaml.compose(text, Loader=_Loader)
        places = Places(where, _line_numbers(node, where=where))
        return _unshared(yaml.load(text, Loader=_Loader)), places
    except RecursionError:
        raise UserError(f"{where} is nested too deeply for a recipe or configuration; give its YAML file") from None
    except yaml.YAMLError as error:
        mark, position = getattr(error, "problem_mark", None), getattr(error, "position", None)
        number = mark.line + 1 if mark else None if position is None else text.count("\n", 0, position) + 1
        line = "" if number is None else f":{number}"
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(f"{where}{line}: not YAML: {problem}") from error


def read_value(text: str) -> Any:
    """Return a value written on a command line.

    Raises:
        ValueError: If it is not YAML.

    Example:
        >>> read_value("1e-3"), read_value("true"), read_value("[1, two]")
        (0.001, True, [1, 'two'])
    """
    try:
        return yaml.load(text, Loader=_Loader)
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{text!r} is no value; write a number, a word or true/false") from error


def write_yaml(content: Any) -> str:
    """Return YAML that `read_yaml` reads back without loss."""
    text: str = yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100)
    return text


def _line_numbers(root: yaml.Node | None, *, where: str) -> dict[tuple[str, ...], int | str]:
    lines: dict[tuple[str, ...], int | str] = {}

    def visit(node: yaml.Node, path: tuple[str, ...], above: tuple[yaml.Node, ...]) -> None:
        if any(node is other for other in above):
            raise UserError(f"{where}:{node.start_mark.line + 1}: an anchor refers to itself; write it out")
        above = (*above, node)
        if isinstance(node, yaml.SequenceNode):
            for position, value in enumerate(node.value):
                lines[(*path, str(position))] = value.start_mark.line + 1
                visit(value, (*path, str(position)), above)
        elif isinstance(node, yaml.MappingNode):
            _refuse_repeated_keys(node, where=where)
            # Merged keys come first, because the mapping's own keys override them.
            for key, value in sorted(node.value, key=lambda pair: pair[0].tag != _MERGE):
                if key.tag == _MERGE:
                    for merged in reversed(value.value if isinstance(value, yaml.SequenceNode) else [value]):
                        visit(merged, path, above)
                else:
                    lines[(*path, key.value)] = key.start_mark.line + 1
                    visit(value, (*path, key.value), above)

    if root is not None:
        visit(root, (), ())
    return lines


def _refuse_repeated_keys(node: yaml.MappingNode, *, where: str) -> None:
    first: dict[Any, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise UserError(f"{where}:{line}: a key must be a text")
        if key.value in first:
            raise UserError(f"{where}:{line}: `{key.value}` occurs here and at line {first[key.value]}; keep one")
        first[key.value] = line


def _unshared(value: Any) -> Any:
    """Copy containers, so that a change to one use of an anchor leaves the others alone."""
    if isinstance(value, dict):
        return {key: _unshared(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_unshared(item) for item in value]
    return value
