"""The pages of docs/ and the texts at the top: their links, their Python, and what they say.

No package that builds the site is needed: `make docs` does that, and takes warnings for errors.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import io
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from textwrap import dedent

import pytest

import sofie_rdf
from docs.building import cli, pictures, tables, tutorials
from sofie_rdf.bench.models import BUILT_IN
from sofie_rdf.cli.arguments import parser
from sofie_rdf.passes import pipeline

pytestmark = pytest.mark.usefixtures("unoptimized")

REPOSITORY = Path(__file__).resolve().parents[1]
DOCS = REPOSITORY / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
TEXTS = [*PAGES, *sorted(REPOSITORY.glob("*.md")), REPOSITORY / "data/README.md"]
WIDTH = 120
_FENCED = re.compile(r"^( *)```.*?^\1```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"(?<!\\)!?\[[^\]]*\]\(([^)\s]+)\)")
_RUN = re.compile(r"<!-- run -->\n```python\n(.*?)```\n(?:\n```\n(.*?)```\n)?", re.DOTALL)


def name(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def prose(path: Path) -> str:
    """A page without its blocks of code."""
    return _FENCED.sub("", path.read_text())


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as the site and most hosts of repositories make them."""
    headings = re.findall(r"^#{1,6} (.*)$", prose(path), re.MULTILINE)
    made = {f"sofie_rdf.{x}" for x in re.findall(r"^::: sofie_rdf\.(\S+)", path.read_text(), re.M)}
    return made | {
        re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", h).strip().lower()) for h in headings
    }


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_links_lead_somewhere(path: Path) -> None:
    for link in _LINK.findall(prose(path)):
        target, _, anchor = link.partition("#")
        if ":" in target:
            continue
        found = (path.parent / target).resolve() if target else path
        assert found.exists(), f"{name(path)} links to {link}, which is no file"
        if anchor:
            assert anchor in anchors(found), (
                f"{name(path)} links to {link}, which has no such heading"
            )


@pytest.mark.parametrize("path", PAGES, ids=name)
def test_lines_are_short_and_a_page_has_one_title(path: Path) -> None:
    lines = prose(path).splitlines()
    long = [line for line in lines if len(line) > WIDTH and not line.startswith("|")]
    assert not long, f"{name(path)}: {long[0]}"
    assert sum(line.startswith("# ") for line in lines) == 1


def blocks(path: Path, language: str) -> Iterator[str]:
    for found in re.finditer(
        rf"^( *)```{language}\n(.*?)^\1```$", path.read_text(), re.DOTALL | re.MULTILINE
    ):
        yield found[2]


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_blocks_of_python_compile(path: Path) -> None:
    for block in blocks(path, "python"):
        # A row of a table of cases ends with a comma, and is an expression without it.
        text = f"{{{block}}}" if block.startswith("(") else dedent(block)
        compile(text, name(path), "exec", flags=ast.PyCF_ONLY_AST)


RUNNABLE = [path for path in PAGES if _RUN.search(path.read_text())]


@pytest.mark.parametrize("path", RUNNABLE, ids=name)
def test_blocks_that_are_marked_run_and_print_what_stands_below(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = pytest.importorskip("ROOT")
    for model in (REPOSITORY / "data").glob("*.onnx"):
        shutil.copy(model, tmp_path)
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    try:
        for block, expected in _RUN.findall(path.read_text()):
            with redirect_stdout(io.StringIO()) as printed:
                exec(compile(block, name(path), "exec"), names)
            if expected:
                assert printed.getvalue().strip() == expected.strip()
    finally:
        # Pages switch threads on, and other tests have none.
        if root.IsImplicitMTEnabled():
            root.DisableImplicitMT()


def test_the_readme_is_one_page_of_short_lines() -> None:
    lines = (REPOSITORY / "README.md").read_text().splitlines()
    assert len(lines) <= 120
    assert not [x for x in lines if len(x) > WIDTH and not x.startswith("|")]


def test_the_example_of_the_readme_runs_when_it_is_pasted(tmp_path: Path) -> None:
    """As a user runs it: in a new process, in a folder that has data/higgs.onnx."""
    pytest.importorskip("ROOT")
    pytest.importorskip("matplotlib")
    [(block, expected)] = _RUN.findall((REPOSITORY / "README.md").read_text())
    (tmp_path / "data").symlink_to(REPOSITORY / "data")
    (tmp_path / "example.py").write_text(block)
    found = subprocess.run(
        [sys.executable, "example.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.strip() == expected.strip()
    assert (tmp_path / "scores.png").is_file()


def test_the_citation_has_the_version_of_the_package() -> None:
    text = (REPOSITORY / "CITATION.cff").read_text()
    assert f'version: "{sofie_rdf.__version__}"' in text


def test_the_site_has_every_page() -> None:
    listed = re.findall(r"[\w/.-]+\.md$", (REPOSITORY / "mkdocs.yml").read_text(), re.MULTILINE)
    made = {f"tutorials/{p.stem}.md" for p in (REPOSITORY / "tutorials").glob("[0-9]*.py")}
    made |= {"tutorials/higgs_demo.md", "changelog.md", "security.md", "data.md"}
    made |= {f"develop/{page}.md" for page in ("contributing", "performance", "map")}
    assert len(listed) == len(set(listed))
    assert set(listed) == made | {p.relative_to(DOCS).as_posix() for p in PAGES}


def test_every_tutorial_is_in_the_list() -> None:
    listed = (DOCS / "tutorials/index.md").read_text()
    for script in (REPOSITORY / "tutorials").glob("[0-9]*.py"):
        assert f"](../../tutorials/{script.name})" in listed


def called(node: ast.Call) -> object:
    """The function of ours that a call in a page is of, if it is one."""
    match node.func:
        case ast.Attribute(ast.Name("sofie"), attribute):
            assert hasattr(sofie_rdf, attribute), f"there is no sofie_rdf.{attribute}"
            return getattr(sofie_rdf, attribute)
        case ast.Attribute(ast.Name("model" | "tagger" | "small" | "slopes"), attribute):
            assert hasattr(sofie_rdf.Model, attribute), f"there is no Model.{attribute}"
            return getattr(sofie_rdf.Model, attribute)
    return None


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_functions_have_the_names_and_arguments_that_pages_use(path: Path) -> None:
    for block in blocks(path, "python"):
        if block.startswith("("):
            continue
        for node in ast.walk(ast.parse(dedent(block))):
            function = called(node) if isinstance(node, ast.Call) else None
            if not isinstance(node, ast.Call) or not callable(function):
                continue
            same = sofie_rdf.define if function is sofie_rdf.Model.define else function
            parameters = inspect.signature(same).parameters
            if all(p.kind is not p.VAR_KEYWORD for p in parameters.values()):
                given = {keyword.arg for keyword in node.keywords} - {None}
                assert given <= parameters.keys(), f"{name(path)}: {ast.unparse(node)}"


# What is said of the code ------------------------------------------------------------------------


def sources(*suffixes: str) -> Iterator[str]:
    for folder in ("sofie_rdf", "cling"):
        for path in sorted((REPOSITORY / folder).rglob("*")):
            if path.suffix in suffixes:
                yield path.read_text()


def test_every_environment_variable_has_a_line() -> None:
    page = (DOCS / "environment.md").read_text()
    before = r"environ(?:\.get\(|\.setdefault\(|\[)|getenv\(|^\w+ = "
    pattern = re.compile(rf'(?:{before})"(SOFIE_RDF_[A-Z]+)', re.MULTILINE)
    read = {found for text in sources(".py", ".hxx") for found in pattern.findall(text)}
    assert {"SOFIE_RDF_LIMITS", "SOFIE_RDF_WINOGRAD", "SOFIE_RDF_PYTHON"} <= read
    for variable in read:
        assert f"| `{variable}` |" in page, f"docs/environment.md says nothing of {variable}"
    known = "".join([*sources(".py", ".hxx", ".cmake"), *(p.read_text() for p in other_tests())])
    for variable in re.findall(r"`(SOFIE_RDF_\w+)`", page):
        assert variable in known, f"docs/environment.md has {variable}, which nobody reads"


def other_tests() -> Iterator[Path]:
    yield from (p for p in (REPOSITORY / "tests").rglob("*.py") if p != Path(__file__))


def messages() -> set[str]:
    """All texts in the code that have words, with … for what is filled in."""
    found: set[str] = set()
    for text in sources(".py"):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.JoinedStr):
                parts = (str(v.value) if isinstance(v, ast.Constant) else "…" for v in node.values)
                found.add("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.add(node.value)
    return found


def test_the_errors_of_the_page_of_questions_are_those_of_the_code() -> None:
    known = " \0 ".join(messages())
    errors = re.findall(r"^### `(.*)`$", (DOCS / "faq.md").read_text(), re.MULTILINE)
    assert len(errors) > 20
    for error in errors:
        assert error in known, f"docs/faq.md: no error says {error!r}"


def test_the_reference_of_the_command_line_has_all_commands_and_options() -> None:
    reference = cli.reference()
    for action in parser()._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command, its in action.choices.items():
                section = reference.split(f"## sofie-rdf {command}\n")[1].split("\n## ")[0]
                options = [o for a in its._actions for o in a.option_strings if o != "-h"]
                assert all(f"`{o}" in section for o in options if o != "--help")
            assert len(action.choices) > 10


def test_the_tables_are_made_of_the_code() -> None:
    assert "| `normalization/norms.hxx` | Vectors scaled to a norm. |" in tables.headers()
    having, _, lacking = tables.gradients().partition("Without one")
    assert "`Relu`" in having
    assert "`QuantizeLinear`" in lacking
    layers = tables.keras_layers()
    assert "`Dense`" in layers
    assert "`LSTM`" in layers
    devices = tables.devices()
    assert "| `higgs` | 1 | 1 |" in devices
    assert all(f"| `{name}` | 1 | " in devices for name in BUILT_IN)
    page = (REPOSITORY / "PERFORMANCE.md").read_text().partition("## On devices, on paper")[2]
    rows = re.findall(r"^\| `(\w+)` (\| 4,096 .*)$", page.partition("\n## ")[0], re.MULTILINE)
    assert rows and all(f"\n|  {row}" in devices.partition(f"`{n}`")[2] for n, row in rows)


@pytest.mark.exhaustive
@pytest.mark.parametrize("table", tables.__all__)
def test_each_table_can_be_made(table: str) -> None:
    assert getattr(tables, table)().strip()


def test_the_phases_of_the_page_of_passes_are_those_of_the_code() -> None:
    page = (DOCS / "develop/passes.md").read_text()
    rows = [f"| {phase.name} | {phase.promise} |" for phase in pipeline.DEFAULT]
    assert "\n".join(rows) in page


def test_a_tutorial_is_a_page_with_its_output(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "01_short.py"
    script.write_text(
        '"""A title.\n\nWhat it says.\n"""\n\nfrom pathlib import Path\n\n'
        'Path("out").mkdir()\nPath("out/a.png").write_bytes(b"png")\nprint(Path.cwd())\n'
    )
    script.with_suffix(".C").write_text("void f() {}\n")
    monkeypatch.setattr(tutorials, "_KEPT", tmp_path / "kept")
    monkeypatch.setattr(tutorials, "_FOLDER", tmp_path)
    page = tutorials._page(script)
    assert page.text.startswith("# A title\n\nWhat it says.\n\n```python\nfrom pathlib")
    assert "## Output\n\n```\n.\n```\n" in page.text
    assert "## 01_short.C" in page.text
    assert page.pictures == {"01_short-a.png": b"png"}
    assert tutorials._page(script) == page
    script.write_text('"""A title."""\n\nraise SystemExit(3)\n')
    with pytest.raises(RuntimeError, match=r"01_short\.py ends with 3"):
        tutorials._page(script)
    assert list((tmp_path / "kept").iterdir())


def test_every_public_name_is_in_the_reference() -> None:
    pages = "".join(p.read_text() for p in (DOCS / "api").glob("*.md"))
    shown = set(re.findall(r"^::: sofie_rdf\.(\w+)$", pages, re.MULTILINE))
    names = {name for name in vars(sofie_rdf) if not name.startswith("_")}
    modules = {name for name in names if inspect.ismodule(getattr(sofie_rdf, name))}
    assert shown - modules == names - modules


def test_the_picture_of_speeds_is_that_of_the_page() -> None:
    found = pictures.speeds()
    assert len(found) == 10
    assert all(0.5 < ratio < 100 for ratio in found.values())


def test_pictures_are_small_texts_with_the_command_that_draws_them() -> None:
    for picture in (DOCS / "assets").glob("*.*"):
        assert picture.suffix in (".svg", ".css")
        assert picture.stat().st_size < 100_000
        assert picture.read_text()
    assert "python -m docs.building.pictures" in (DOCS / "index.md").read_text()


@pytest.mark.parametrize("path", sorted((DOCS / "develop").glob("add-*.md")), ids=name)
def test_code_that_is_shown_is_that_of_the_repository(path: Path) -> None:
    files = [*sources(".py", ".hxx"), *(p.read_text() for p in other_tests())]
    known = {line.strip() for text in files for line in text.splitlines()}
    for block in (*blocks(path, "python"), *blocks(path, "cpp")):
        for line in block.splitlines():
            assert line.strip() in known, f"{name(path)} shows {line!r}"


@pytest.mark.parametrize("path", TEXTS, ids=name)
def test_files_that_are_named_exist(path: Path) -> None:
    folders = "sofie_rdf|cling|tests|tutorials|data|docs"
    for said in re.findall(rf"`((?:{folders})/[\w./-]+)`", prose(path)):
        assert (REPOSITORY / said).exists(), f"{name(path)} names {said}"


def test_the_threat_model_names_tests_that_there_are() -> None:
    """A test that was renamed holds nothing as far as a reader can see."""
    text, known = (DOCS / "threat-model.md").read_text(), ""
    found = re.findall(r"`(?:(tests/[\w/]+\.py)::)?(test_\w+)`", text)
    assert len(found) > 40
    for file, test in found:
        known = (REPOSITORY / file).read_text() if file else known
        assert f"def {test}(" in known, test
