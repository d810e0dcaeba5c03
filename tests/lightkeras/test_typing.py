"""What an editor or a type checker sees of lightkeras, which imports lazily: everything public, with types."""

import json
import re
import subprocess
import sys
import types

import lightkeras as lk


def check(folder, code: str) -> list[dict]:
    """Runs pyright over `code`, as a user's file, and returns its messages."""
    file = folder / "sample.py"
    file.write_text(code, encoding="utf-8")
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(file)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, 1), done.stderr
    return json.loads(done.stdout)["generalDiagnostics"]


def public_names() -> list[str]:
    """Returns `lk.X` for every public name, and `lk.module.Y` for every name of a public module."""
    modules = [name for name in lk.__all__ if isinstance(getattr(lk, name), types.ModuleType)]
    return [f"lk.{name}" for name in lk.__all__] + [
        f"lk.{m}.{name}" for m in modules for name in getattr(lk, m).__all__
    ]


def test_every_public_name_has_a_type(tmp_path):
    names = public_names()
    messages = check(tmp_path, "import lightkeras as lk\n" + "\n".join(f"reveal_type({name})" for name in names))
    revealed = [re.fullmatch(r'Type of "(.*?)" is "(.*)"', one["message"], re.DOTALL) for one in messages]
    assert all(revealed), messages
    found = {match[1]: match[2] for match in revealed}
    assert list(found) == names
    assert not [name for name, type_ in found.items() if type_ in ("Unknown", "Any")]
    assert found["lk.Trainer"] == "type[Trainer]" and found["lk.metrics.BLEU"] == "type[BLEU]"


def test_mistakes_are_seen(tmp_path):
    code = "import lightkeras as lk\nlk.Trainer(max_epoch=3)\nlk.Trainre\nlk.metrics.Bleu\n"
    lines = [one["range"]["start"]["line"] for one in check(tmp_path, code) if one["severity"] == "error"]
    assert lines == [1, 2, 3]
