"""The project's source files as syntax trees, and the imports between them."""

import ast
import functools
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PACKAGES = ("lightkeras", "tasks", "benchmarks")
SCRIPT = "# ---\n# jupyter:"  # the beginning of a percent script, which is a notebook and no module


class Source(NamedTuple):
    """A source file: the dotted name of the module, and the syntax tree."""

    name: str
    path: Path
    text: str
    tree: ast.Module

    def at(self, node: ast.AST) -> str:
        """Returns `file:line` of a node."""
        return f"{self.path.relative_to(ROOT)}:{node.lineno}"

    @property
    def is_package(self) -> bool:
        """Whether this file is the `__init__.py` of a package."""
        return self.path.stem == "__init__"


class Import(NamedTuple):
    """One imported name: `origin` imports `target` (and takes `name` from it) at `place`."""

    origin: str
    target: str
    name: str | None
    place: str


def read(path: Path) -> Source:
    """Parses one file."""
    text = path.read_text(encoding="utf-8")
    name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    return Source(name, path, text, ast.parse(text))


@functools.cache
def nodes(tree: ast.Module) -> tuple[ast.AST, ...]:
    """Returns every node of a file's tree."""
    return tuple(ast.walk(tree))


@functools.cache
def sources(*packages: str) -> tuple[Source, ...]:
    """Returns every file of the packages (by default of all three); notebooks are left out."""
    found = (read(path) for package in packages or PACKAGES for path in sorted((ROOT / package).rglob("*.py")))
    return tuple(source for source in found if not source.text.startswith(SCRIPT))


@functools.cache
def imports(source: Source) -> tuple[Import, ...]:
    """Returns what a file imports, inside functions too; imports for type checkers only are left out."""
    return tuple(_imports(source))


def _imports(source: Source) -> Iterator[Import]:
    skipped = _for_type_checkers(source.tree)
    for node in nodes(source.tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (Import(source.name, alias.name, None, source.at(node)) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(source, node)
            yield from (Import(source.name, base, alias.name, source.at(node)) for alias in node.names)


def arrows(*packages: str) -> Iterator[Import]:
    """Yields the imports between our own files, with a submodule as the target of `from package import submodule`.

    The strings of a package that imports lazily (with a `__getattr__`) count where they name one of our modules.
    """
    files = sources(*packages)
    known = {source.name for source in sources()}
    for source in files:
        found = [*imports(source), *_lazy_imports(source)]
        for one in found:
            whole = f"{one.target}.{one.name}"
            target = whole if one.name and whole in known else one.target
            if target in known and target != source.name:
                yield one._replace(target=target)


def attributes(source: Source) -> Iterator[tuple[ast.Attribute, list[str]]]:
    """Yields every attribute access with its dotted parts: `lk.metrics.BLEU` as `["lk", "metrics", "BLEU"]`.

    The first part is "" where the object has no name: `f(x).y`.
    """
    for node in nodes(source.tree):
        if isinstance(node, ast.Attribute):
            yield node, dotted(node)


def dotted(node: ast.AST) -> list[str]:
    """Splits an attribute access into its parts."""
    if isinstance(node, ast.Attribute):
        return [*dotted(node.value), node.attr]
    return [node.id] if isinstance(node, ast.Name) else [""]


def strings(source: Source, with_docstrings: bool = True) -> Iterator[ast.Constant]:
    """Yields the string constants of a file."""
    left_out = set() if with_docstrings else _docstrings(source.tree)
    for node in nodes(source.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in left_out:
            yield node


def private_definitions(files: Iterable[Source]) -> set[str]:
    """Returns the private names that the files define: functions, classes, variables, attributes."""
    found = set()
    for node in (node for source in files for node in nodes(source.tree)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.id if isinstance(node, ast.Name) else node.attr)
    return {name for name in found if is_private(name)}


def is_private(name: str) -> bool:
    """Returns whether a name begins with an underscore and is no `__dunder__`."""
    return bool(re.match(r"_[a-zA-Z]|__\w+(?<!__)$", name))


def _absolute(source: Source, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    parts = source.name.split(".")
    parts = parts[: len(parts) - node.level + source.is_package]
    return ".".join([*parts, *([node.module] if node.module else [])])


def _for_type_checkers(tree: ast.Module) -> set[int]:
    blocks = [node for node in nodes(tree) if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)]
    return {id(node) for block in blocks for statement in block.body for node in ast.walk(statement)}


def _lazy_imports(source: Source) -> Iterator[Import]:
    if not any(isinstance(node, ast.FunctionDef) and node.name == "__getattr__" for node in source.tree.body):
        return
    for node in strings(source, with_docstrings=False):
        for target in (node.value, f"{source.name}.{node.value}"):
            yield Import(source.name, target, None, source.at(node))


def _docstrings(tree: ast.Module) -> set[int]:
    """Returns the ids of the strings that are statements of their own: docstrings."""
    return {id(node.value) for node in nodes(tree) if isinstance(node, ast.Expr)}
