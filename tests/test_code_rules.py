"""Rules about the code itself that neither ruff nor the import contracts can state."""

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import spot

SOURCE = Path(spot.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text(encoding="utf-8")) for path in FILES}

# Words that name nothing: what a variable or a parameter holds should stand in its name.
NAMELESS = {"found", "one", "made", "said"}
TESTS = Path(__file__).parent
TESTED_ELSEWHERE = {  # module without tests at its own name -> what tests it
    "__main__.py": ("cli/test_app.py",),
    "evaluation/door.py": ("test_front_door.py", "cli/test_evaluate.py"),
    "evaluation/test_sets.py": ("cli/test_submit.py",),
    "models/shapes.py": ("models/test_estimate.py",),
    "models/speed.py": ("models/test_estimate.py", "models/test_precision.py"),
    "models/ways.py": ("models/test_probe.py", "models/test_causal.py"),
    "strategies/door.py": ("test_front_door.py", "test_classifier.py"),
    "study/running.py": ("cli/test_study_run.py",),
    "study/teaching.py": ("study/test_golden_cells.py", "cli/test_study_run.py"),
    "training/door.py": ("test_front_door.py", "test_classifier.py"),
}

HELP = """
import sys
from spot.cli.app import app
try:
    app(args=["--help"], prog_name="spot")
except SystemExit as stop:
    assert not stop.code, stop.code
heavy = sorted({"torch", "transformers", "sklearn", "matplotlib", "pyarrow"} & set(sys.modules))
assert not heavy, f"--help imported {heavy}"
"""


def where(path: Path, node: ast.AST) -> str:
    return f"{path.relative_to(SOURCE)}:{node.lineno}"


def nodes(kind: type | tuple[type, ...]) -> list[tuple[Path, ast.AST]]:
    return [(path, node) for path, tree in TREES.items() for node in ast.walk(tree) if isinstance(node, kind)]


def last_name(node: ast.expr) -> str:
    """`Library` of both `Library` and `library.Library`, and of `Library[str]`."""
    if isinstance(node, ast.Subscript):
        node = node.value
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def names_given(tree: ast.Module) -> list[tuple[ast.AST, str]]:
    """Every parameter and variable of a file where it gets its name; fields of a record are not among them."""
    fields = {
        id(part.target)
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for part in node.body
        if isinstance(part, ast.AnnAssign)
    }
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.arg):
            names.append((node, node.arg))
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and id(node) not in fields:
            names.append((node, node.id))
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            names.append((node, node.name))
    return names


def is_ours(statement: ast.AST) -> bool:
    """Whether an import statement names this package."""
    if isinstance(statement, ast.ImportFrom):
        return bool(statement.level) or (statement.module or "").split(".")[0] == "spot"
    return any(alias.name.split(".")[0] == "spot" for alias in statement.names)


def test_no_class_inherits_implementation():
    # Walking one file after another is enough: a base class is named as it was where it was defined.
    own = {node.name for path, node in nodes(ast.ClassDef) if path.name != "errors.py"}
    heirs = [
        f"{where(path, node)} {node.name} inherits from {last_name(base)}"
        for path, node in nodes(ast.ClassDef)
        for base in node.bases
        if last_name(base) in own
    ]
    assert not heirs, heirs


def test_own_modules_are_imported_at_the_top_of_a_file():
    # Commands alone may import when they run, so that `spot --help` need not wait for torch.
    hidden = [
        f"{where(path, statement)} in {function.name}"
        for path, function in nodes((ast.FunctionDef, ast.AsyncFunctionDef))
        if path.parent.name != "cli"
        for statement in ast.walk(function)
        if isinstance(statement, ast.Import | ast.ImportFrom) and is_ours(statement)
    ]
    assert not hidden, hidden


def test_no_module_is_a_drawer_for_everything():
    drawers = {"utils.py", "util.py", "helpers.py", "common.py", "misc.py"}
    assert not [path for path in FILES if path.name in drawers]


def test_models_are_loaded_in_one_place():
    # There alone stands what keeps a model folder's own code from running.
    loaders = {"from_pretrained", "from_config"}
    calls = [
        where(path, node)
        for path, node in nodes(ast.Call)
        if last_name(node.func) in loaders and path != SOURCE / "models" / "loading.py"
    ]
    assert not calls, calls


def test_no_loader_runs_code_of_a_model_folder():
    tree = TREES[SOURCE / "models" / "loading.py"]
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    loaders = [node for node in calls if last_name(node.func) in {"from_pretrained", "from_config"}]
    assert loaders
    for call in loaders:
        trust = [word.value for word in call.keywords if word.arg == "trust_remote_code"]
        assert len(trust) == 1 and isinstance(trust[0], ast.Constant) and trust[0].value is False, call.lineno


def test_a_constant_has_one_value():
    """Two of one name are what a merge, or somebody who did not look, leaves behind; the last wins in silence."""
    twice = []
    for path, tree in TREES.items():
        targets = [
            target
            for statement in tree.body
            if isinstance(statement, ast.Assign | ast.AnnAssign)
            for target in (statement.targets if isinstance(statement, ast.Assign) else [statement.target])
        ]
        names = [name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)]
        twice += [f"{where(path, tree.body[0])} {name}" for name, count in Counter(names).items() if count > 1]
    assert not twice


def test_names_say_what_they_hold():
    nameless = [
        f"{where(path, node)} {name}" for path in FILES for node, name in names_given(TREES[path]) if name in NAMELESS
    ]
    assert not nameless, nameless


def mirror(module: str) -> Path:
    """Where the tests of a module are, by its name."""
    return TESTS / Path(module).with_name(f"test_{Path(module).name}")


def test_tests_stand_at_the_name_of_their_module():
    modules = [str(path.relative_to(SOURCE)) for path in FILES if path.name != "__init__.py"]
    lost = [module for module in modules if module not in TESTED_ELSEWHERE and not mirror(module).exists()]
    assert not lost, f"no tests for {lost}: write {[str(mirror(module).relative_to(TESTS)) for module in lost]}"


def test_exceptions_from_the_mirror_are_so():
    for module, files in TESTED_ELSEWHERE.items():
        assert (SOURCE / module).exists() and not mirror(module).exists(), module
        assert all((TESTS / file).exists() for file in files), module


def test_no_test_imports_a_test():
    # Read as text, because tests also write programs that import.
    importing = re.compile(r"^\s*(?:from|import) tests\.(?!(?:support|campaigns)\b)", re.MULTILINE)
    files = [str(path.relative_to(TESTS)) for path in TESTS.rglob("*.py") if importing.search(path.read_text())]
    assert not files, f"what {files} import from tests belongs in tests/support"


@pytest.mark.parametrize("package", [path for path in FILES if path.name == "__init__.py"], ids=str)
def test_packages_import_none_of_their_modules(package: Path):
    imports = [node for node in ast.walk(TREES[package]) if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not [where(package, statement) for statement in imports if is_ours(statement)]


@pytest.mark.parametrize("name", spot.__all__)
def test_public_names_exist(name: str):
    assert getattr(spot, name) is not None
    assert name in dir(spot)


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="No spot attribute nothing"):
        spot.nothing  # noqa: B018


def test_importing_the_package_imports_nothing_heavy():
    check = "import spot, sys; assert not {'torch', 'numpy', 'typer'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_help_starts_without_torch():
    subprocess.run([sys.executable, "-c", HELP], check=True, stdout=subprocess.DEVNULL)
