"""The text of a plan → plain data, and the line on which each part of it stands. YAML 1.2's core types (`on` is a word), or JSON Lines."""

import json
import re
from typing import Any, NamedTuple

import yaml

Path = tuple[str | int, ...]
"""Keys and indices from the top of the document."""

NODES_MAX = 1_000_000
"""More than this, aliases counted where they are used, is refused."""
_INT = re.compile(r"[-+]?[0-9]+\Z")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?\Z")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


class Problem(NamedTuple):
    """One thing wrong with a plan."""

    line: int
    """From 1; 0: the document as a whole."""
    where: str
    message: str

    def __str__(self) -> str:
        return f"{self.where}: {self.message}" if self.where else self.message


class Document(NamedTuple):
    """What was read."""

    data: Any
    lines: dict[Path, int]
    problems: list[Problem]

    def line_of(self, path: Path) -> int:
        """The line of a part, or of the nearest thing around it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def shown(path: Path) -> str:
    """`steps[0].args.spec`"""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).removeprefix(".")


def read(text: str, *, json_lines: bool = False) -> Document:
    """Reads a plan. Never raises: what cannot be read is a problem."""
    return _read_json_lines(text) if json_lines else _read_yaml(text)


class _Words(yaml.SafeLoader):
    """Takes every plain scalar for text; what it is, is decided here."""

    yaml_implicit_resolvers = {}


class _ProblemFound(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(str(problem))
        self.problem = problem


class _YamlReader:
    def __init__(self) -> None:
        self.lines: dict[Path, int] = {}
        self.problems: list[Problem] = []
        self._around: set[int] = set()
        self._nodes = 0

    def value(self, node: yaml.Node, path: Path) -> Any:
        line = node.start_mark.line + 1
        self.lines.setdefault(path, line)
        self._nodes += 1
        if self._nodes > NODES_MAX:
            raise _ProblemFound(Problem(line, "", f"more than {NODES_MAX} values"))
        if id(node) in self._around:
            raise _ProblemFound(Problem(line, shown(path), "an alias of something it stands in"))
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node)
        self._around.add(id(node))
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, (*path, index)) for index, item in enumerate(node.value)]
            return self._mapping(node, path)
        finally:
            self._around.discard(id(node))

    def _mapping(self, node: yaml.Node, path: Path) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key_node, value_node in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                self.problems.append(Problem(line, shown(path), "a key must be a word"))
                continue
            key = key_node.value
            if key in found:
                self.problems.append(Problem(line, shown((*path, key)), "given twice"))
            self.lines[*path, key] = line
            found[key] = self.value(value_node, (*path, key))
        return found

    def _scalar(self, node: yaml.ScalarNode) -> Any:
        text: str = node.value
        if node.style is not None:  # in quotes, or a block of text
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _INT.match(text) and len(text) <= 19:
            return int(text)
        return float(text) if _FLOAT.match(text) and not _INT.match(text) else text


def _read_yaml(text: str) -> Document:
    reader = _YamlReader()
    try:
        node = yaml.compose(text, Loader=_Words)
        data = None if node is None else reader.value(node, ())
    except yaml.MarkedYAMLError as why:
        mark = why.problem_mark or why.context_mark
        return Document(None, {}, [Problem(mark.line + 1 if mark else 0, "", why.problem or "not YAML")])
    except _ProblemFound as found:
        return Document(None, {}, [found.problem])
    except RecursionError:
        return Document(None, {}, [Problem(0, "", "nested too deeply")])
    except yaml.YAMLError as why:
        return Document(None, {}, [Problem(0, "", " ".join(str(why).split()))])
    return Document(data, reader.lines, reader.problems)


def _read_json_lines(text: str) -> Document:
    """The first line has the plan's own members (`version`), each further one is a step."""
    lines: dict[Path, int] = {}
    problems: list[Problem] = []
    values: list[tuple[int, Any]] = []
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            values.append((number, json.loads(line, object_pairs_hook=_without_twins)))
        except (ValueError, RecursionError) as why:
            problems.append(Problem(number, "", f"not JSON: {why}"))
    if not values:
        return Document(None, {}, problems)
    (first, head), *steps = values
    if not isinstance(head, dict):
        return Document(None, {}, [*problems, Problem(first, "", 'the first line is the plan itself: {"version": 1}')])
    lines[()] = lines[("version",)] = first
    lines |= {("steps", index): number for index, (number, _) in enumerate(steps)}
    return Document({**head, "steps": [step for _, step in steps]}, lines, problems)


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} is given twice")
    return found
