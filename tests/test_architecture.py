"""The shape of the code: which file may import which, what is public, and where private names may stand."""

import ast
import configparser
import functools
import graphlib
import importlib.util
import inspect
import itertools
import re
import types

import pytest
from helpers.source_tree import (
    ROOT,
    arrows,
    attributes,
    imports,
    is_private,
    nodes,
    private_definitions,
    read,
    sources,
    strings,
)

import lightkeras as lk

MAX_LINES = 400
FLOORS = (  # a file imports from its own floor and the floors below it
    ("version",),
    ("utils",),
    ("checkpoint", "data", "decoding", "distribution", "layers", "metrics", "random", "text"),
    ("losses", "profiling", "schedules", "training"),
    ("runs",),
    ("demo", "export", "report"),
    ("task",),
    ("keras_models",),
    ("callbacks",),
    ("trainer_arguments",),
    ("trainer",),
    ("configuration",),
    ("preview", "replaying", "tuning", "verifier"),
    ("cli",),
    ("__main__",),
)
ABOVE = ("tasks", "benchmarks")
INTERNALS = "lightkeras.utils.internals"
FOREIGN = ("keras", "keras_tuner", "tensorflow")  # the packages whose private names only INTERNALS may touch
DOCUMENTED = {
    "_replace",
    "_asdict",
    "_fields",
    "_make",
    "_exit",
}  # of named tuples and `os`: public in spite of the name
GROUPS = {"console_scripts", "lightkeras.tasks", "lightkeras.benchmarks"}


def require_none(faults, rule: str) -> None:
    """Fails with one line for each fault."""
    if faults := sorted(set(faults)):
        pytest.fail(f"{rule}\n  " + "\n  ".join(faults), pytrace=False)


# ---- imports


def test_no_import_circle():
    """Imports inside functions count, and so do the strings of lazy packages."""
    _require_no_circle([(arrow.origin, arrow.target, arrow.place) for arrow in arrows()])


def test_no_circle_between_the_rooms_of_lightkeras():
    rooms = [(_room(arrow.origin), _room(arrow.target), arrow.place) for arrow in arrows("lightkeras")]
    _require_no_circle([(origin, target, place) for origin, target, place in rooms if origin != target])


def test_arrows_point_down():
    floors = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
    found = {_room(source.name) for source in sources("lightkeras")} - {"lightkeras"}
    assert found <= set(floors), f"Expected every file of lightkeras/ to have a floor. Received: {found - set(floors)}"
    require_none(
        (
            f"{arrow.place}: {arrow.origin} imports {arrow.target}, which lies above it"
            for arrow in arrows("lightkeras")
            if "lightkeras" not in (_room(arrow.origin), _room(arrow.target))
            and floors[_room(arrow.target)] > floors[_room(arrow.origin)]
        ),
        "A file imports only from its own floor and the floors below.",
    )


def test_the_library_does_not_import_its_own_surface():
    require_none(
        (f"{a.place}: {a.origin}" for a in arrows("lightkeras") if a.target == "lightkeras" and a.name != "version"),
        "Inside lightkeras/, import from the file that defines a name, not from `lightkeras`.",
    )


def test_the_library_names_neither_tasks_nor_benchmarks():
    above = re.compile(r"(?<![\w.])(?:tasks|benchmarks)(?:\.[a-z_]+|:\w+|/\w+)")
    folders = {path.parent.name for path in (ROOT / "tasks").glob("*/__init__.py")}
    faults = []
    for source in sources("lightkeras"):
        faults += [f"{one.place}: imports {one.target}" for one in imports(source) if _root(one.target) in ABOVE]
        faults += [f"{source.at(node)}: names {m[0]}" for node in strings(source) for m in above.finditer(node.value)]
        named = (node for node in strings(source, with_docstrings=False) if node.value in folders)
        faults += [f'{source.at(node)}: names the task "{node.value}"' for node in named]
    require_none(faults, "lightkeras/ knows tasks and benchmarks by entry points alone.")


def test_no_task_imports_another_nor_a_benchmark():
    require_none(
        (
            f"{arrow.place}: {arrow.origin} imports {arrow.target}"
            for arrow in arrows("tasks")
            if _root(arrow.target) == "benchmarks"
            or (_root(arrow.target) == "tasks" and _room(arrow.target) not in (_room(arrow.origin), "tasks"))
        ),
        "A task uses the library, not another task.",
    )


def test_tasks_import_the_library_as_one_module():
    require_none(
        (
            f"{one.place}: imports {one.target}{f', {one.name}' if one.name else ''}"
            for source in sources("tasks")
            for one in imports(source)
            if _root(one.target) == "lightkeras" and (one.target, one.name) != ("lightkeras", None)
        ),
        "Tasks use `import lightkeras as lk` alone, as a user's code does.",
    )


def test_tasks_use_only_what_is_exported():
    faults = []
    for source in sources("tasks"):
        names = {alias.asname or alias.name for node in nodes(source.tree) if isinstance(node, ast.Import)
                 for alias in node.names if alias.name == "lightkeras"}  # fmt: skip
        for node, (first, *parts) in attributes(source):
            if first in names and not _is_exported(parts):
                faults.append(f"{source.at(node)}: lk.{'.'.join(parts)}")
    require_none(faults, "Tasks use `lk.X` of lightkeras.__all__, and `lk.module.Y` of that module's __all__.")


# ---- the surface


def test_no_long_file():
    lengths = {source.path.relative_to(ROOT): source.text.count("\n") for source in sources()}
    require_none(
        (f"{path}: {lines} lines" for path, lines in lengths.items() if lines > MAX_LINES),
        f"No file has more than {MAX_LINES} lines.",
    )


def test_every_folder_is_a_package():
    """Else `pip install` leaves it out, and only a checkout works."""
    folders = {source.path.parent for source in sources()}
    require_none(
        (str(folder.relative_to(ROOT)) for folder in folders if not (folder / "__init__.py").exists()),
        "Every folder with Python files has an `__init__.py`.",
    )


def _entry_points():
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg")
    for group, lines in config["options.entry_points"].items():
        for line in lines.strip().splitlines():
            yield group, *(part.strip() for part in line.split("=", 1))


@pytest.mark.parametrize(("group", "name", "value"), list(_entry_points()))
def test_every_entry_point_imports(group, name, value):
    assert group in GROUPS
    module, _, attribute = value.partition(":")
    if _needs_more(module):
        pytest.skip("needs the packages of the extra `bench`")
    loaded = importlib.import_module(module)
    assert attribute and callable(getattr(loaded, attribute)), f"{name} = {value}"


def test_every_task_and_benchmark_is_an_entry_point():
    registered = {value.partition(":")[0].split(".")[1] for group, _, value in _entry_points() if "tasks" in group}
    assert registered == {path.parent.name for path in (ROOT / "tasks").glob("*/__init__.py")}
    assert {group for group, _, _ in _entry_points()} == GROUPS


def _public_modules():
    """Yields (module, file) of `lightkeras` and of every module in `__all__`."""
    yield lk, ROOT / "lightkeras" / "__init__.py"
    for name in lk.__all__:
        if isinstance(module := getattr(lk, name), types.ModuleType):
            path = ROOT / "lightkeras" / name
            yield module, path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


PUBLIC = list(_public_modules())
public_modules = pytest.mark.parametrize(("module", "path"), PUBLIC, ids=[module.__name__ for module, _ in PUBLIC])


@public_modules
def test_every_exported_name_is_there_once(module, path):
    assert module.__doc__
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert getattr(module, name) is not None and not name.startswith("_")
    assert set(module.__all__) <= set(dir(module))


@public_modules
def test_public_classes_and_functions_have_docstrings(module, path):
    values = {name: getattr(module, name) for name in module.__all__}
    require_none(
        (
            f"{module.__name__}.{name}"
            for name, value in values.items()
            if callable(value) and not inspect.getdoc(value)
        ),
        "Everything public has a docstring.",
    )


@public_modules
def test_stub_and_surface_agree(module, path):
    """A module that imports lazily has a stub beside it, which imports the same names from the files they live in."""
    lazy = hasattr(module, "__getattr__")
    stub = path.with_suffix(".pyi")
    assert stub.exists() == lazy, f"Expected a stub of {path} where, and only where, it has a `__getattr__`"
    if not lazy:
        return
    exported = {}
    for one in imports(read(stub)):
        assert one.name, f"{one.place}: Expected `from ... import X as X`"
        exported[one.name] = one
    assert set(exported) - {"__version__"} == set(module.__all__)
    for name, one in exported.items():
        home = importlib.import_module(one.target)
        assert getattr(module, name) is getattr(home, name), one.place


def test_stubs_export_what_they_import():
    """`import X as X` is the form with which type checkers take a name for public."""
    stubs = [read(path) for path in (ROOT / "lightkeras").rglob("*.pyi")]
    nodes = [(s, node) for s in stubs for node in s.tree.body if isinstance(node, ast.ImportFrom)]
    assert stubs and (ROOT / "lightkeras" / "py.typed").exists()
    require_none(
        (f"{s.at(node)}: {alias.name}" for s, node in nodes for alias in node.names if alias.asname != alias.name),
        "Expected `from ... import X as X`.",
    )


# ---- private names


def test_private_modules_are_imported_by_internals_alone():
    faults = []
    for source in sources():
        if source.name == INTERNALS:
            continue
        for one in imports(source):
            if _is_private_path([*one.target.split("."), one.name or ""]):
                faults.append(f"{one.place}: {one.target} {one.name or ''}")
        for node, parts in attributes(source):
            if parts[-1] == "__internal__" or _is_private_path(
                [{"tf": "tensorflow"}.get(parts[0], parts[0]), *parts[1:]]
            ):
                faults.append(f"{source.at(node)}: {'.'.join(parts)}")
    require_none(faults, f"Private modules of {', '.join(FOREIGN)} are used in {INTERNALS} alone.")


def test_private_names_of_objects_stay_in_their_file():
    """`x._name` stands in the file that defines `_name`; `self._name` where a class of ours defines it."""
    everywhere, faults = private_definitions(sources()), []
    for source in sources():
        if source.name == INTERNALS:
            continue
        here = private_definitions([source])
        for node, parts in attributes(source):
            known = everywhere if parts[0] in ("self", "cls") and len(parts) == 2 else here
            if is_private(node.attr) and node.attr not in known | DOCUMENTED:
                faults.append(f"{source.at(node)}: {'.'.join(parts)}")
        for node in nodes(source.tree):
            if _is_private_lookup(node) and node.args[1].value not in here:
                faults.append(f"{source.at(node)}: {ast.unparse(node)}")
    require_none(faults, f"Private names of other libraries are touched in {INTERNALS} alone.")


def test_no_class_overrides_a_private_name():
    """Neither a private method of a base class of Keras, TensorFlow or KerasTuner, nor a private attribute."""
    faults = []
    for ours in _our_classes():
        foreign = [base for base in ours.__mro__ if _root(base.__module__) in FOREIGN]
        mine = _private_names(ours) if foreign else set()
        for base in foreign:
            faults += [
                f"{ours.__module__}.{ours.__name__}.{name} of {base.__name__}" for name in mine & _private_names(base)
            ]
    require_none(faults, f"Private names of base classes are overridden in {INTERNALS} alone.")


# ---- helpers


def _root(module: str) -> str:
    return module.partition(".")[0]


def _room(module: str) -> str:
    """The package or file directly in `lightkeras/`, or the task."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else parts[0]


def _require_no_circle(edges: list[tuple[str, str, str]]) -> None:
    places = {(origin, target): place for origin, target, place in edges}
    circle = _find_circle(places)
    steps = (f"{places[pair]}: {pair[0]} imports {pair[1]}" for pair in itertools.pairwise(circle))
    require_none(steps, f"An import circle: {' -> '.join(circle)}")


def _find_circle(edges) -> list[str]:
    """Returns the nodes of a circle, the first one again at the end; empty where there is none."""
    sorter = graphlib.TopologicalSorter()
    for origin, target in edges:
        sorter.add(origin, target)
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        return error.args[1][::-1]
    return []


def _is_exported(parts: list[str]) -> bool:
    if parts[0] not in lk.__all__:
        return parts == ["__version__"]
    value = getattr(lk, parts[0])
    return len(parts) == 1 or not isinstance(value, types.ModuleType) or parts[1] in value.__all__


def _needs_more(module: str) -> bool:
    """Whether a module of ours needs a package that is not installed: one of the extra `bench`."""
    (source,) = [source for source in sources() if source.name == module]
    needed = {_root(one.target) for one in imports(source)} & {"torch", "lightning"}
    return any(importlib.util.find_spec(name) is None for name in needed)


def _is_private_path(parts: list[str]) -> bool:
    if parts[0] not in FOREIGN:
        return False
    return any(part in ("src", "__internal__") or is_private(part) for part in parts) or parts[:2] == [
        "tensorflow",
        "python",
    ]


def _is_private_lookup(node: ast.AST) -> bool:
    """Whether a call is `getattr(x, "_name")` or the like."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("getattr", "setattr", "hasattr", "delattr")
        and len(node.args) > 1
        and isinstance(node.args[1], ast.Constant)
        and is_private(node.args[1].value)
    )


def _our_classes():
    for source in sources():
        if source.name == INTERNALS or source.path.stem == "__main__" or _needs_more(source.name):
            continue
        module = importlib.import_module(source.name)
        yield from (v for v in vars(module).values() if isinstance(v, type) and v.__module__ == source.name)


@functools.cache
def _private_names(of: type) -> set[str]:
    """What a class defines itself: its private methods, and the private attributes that it sets on `self`."""
    names = {name for name in vars(of) if is_private(name)}
    try:
        source = inspect.getsource(of)
    except (OSError, TypeError):
        source = ""
    assigned = re.findall(r"\bself\.(_[a-z]\w*)\s*(?::[^=\n]+)?=[^=]", source)
    return (names | set(assigned)) - {"_abc_impl"}
