"""LICENSE, Dockerfile, CITATION.cff, CHANGELOG.md and setup.cfg say the same as the rest of the project."""

import configparser
import hashlib
import re
from fnmatch import fnmatch
from pathlib import Path

import yaml
from helpers.pages import ROOT, blocks, commands, pages, text_of

from lightkeras.utils import lightning
from lightkeras.version import __version__

APACHE_2_0 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"  # of apache.org's LICENSE-2.0.txt
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")
README = Path("README.md")


def installs(page: Path) -> list[tuple[str, ...]]:
    return [command.words for command in commands(page) if command.words[0] in ("python3", ".", "pip")]


def test_the_licence_is_the_one_that_setup_cfg_names():
    assert SETUP["metadata"]["license"] == "Apache-2.0" and SETUP["metadata"]["license_files"] == "LICENSE"
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == APACHE_2_0


def test_the_dockerfile_and_ci_install_as_the_top_page_says():
    dockerfile = (ROOT / "Dockerfile").read_text()
    (steps,) = re.findall(r"^RUN (.*)$", dockerfile, re.MULTILINE)
    steps = steps.replace('"$TARGET"', re.search(r"^ARG TARGET=(.*)$", dockerfile, re.MULTILINE)[1])
    assert [tuple(step.split()) for step in steps.split(" && ")] == installs(README)[:3]
    ci = (ROOT / ".ci/run").read_text()
    assert "pip install --quiet '.[test]'" in ci and ("pip", "install", ".[test]") in installs(README)
    (tests,) = {command.text for command in commands(README) if command.words[0] == "pytest"}
    assert tests in ci.splitlines()


def test_the_image_is_of_a_python_that_is_supported():
    version = re.search(r"^FROM python:(3\.\d+)-slim$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)[1]
    assert f"Programming Language :: Python :: {version}\n" in SETUP["metadata"]["classifiers"] + "\n"
    assert "Python 3.11 to 3.13" in text_of(README) and SETUP["options"]["python_requires"] == ">=3.11"


def test_the_citation_is_of_this_version_and_its_authors():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == __version__ and citation["license"] == SETUP["metadata"]["license"]
    assert [author["name"] for author in citation["authors"]] == [SETUP["metadata"]["author"]]


def test_the_changelog_has_the_form_of_keep_a_changelog():
    headings = re.findall(r"^## (.*)$", text_of(Path("CHANGELOG.md")), re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    kinds = set(re.findall(r"^### (.*)$", text_of(Path("CHANGELOG.md")), re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


def test_pages_ship_in_the_packages():
    for page in pages():
        package, *rest = page.parts
        if rest and package != "tests":
            patterns = SETUP["options.package_data"][package].split(", ")
            assert any(fnmatch("/".join(rest), pattern) for pattern in patterns), page
            assert (ROOT / page.parent / "__init__.py").exists(), page


def test_the_top_page_says_of_lightning_s_names_what_their_errors_say():
    rows = re.findall(r"^\| `([\w.]+)` \| (.*) \|$", text_of(README), re.MULTILINE)
    sentences = {}
    for names in (lightning.TRAINER_ARGUMENTS, lightning.TRAINER_ATTRIBUTES, lightning.TASK_METHODS):
        sentences |= names
    sentences |= lightning.TASK_ATTRIBUTES
    told = {name: text.replace("`", "") for name, text in rows if name in sentences}
    assert told == {name: sentences[name] for name in told} and len(told) >= 15


def test_the_top_page_is_short():
    assert len(text_of(README).splitlines()) <= 240
    assert len(blocks(README, "python")) == 3
