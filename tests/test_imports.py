"""The rules between modules: lower layers never import higher ones, and heavy packages have one home each."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mrlstore"

# From low to high. A module may import from its own layer and from those above it in this list.
LAYERS = [
    {"mrlstore.version", "mrlstore.errors", "mrlstore.cpus", "mrlstore.intervals", "mrlstore.table"},
    {"mrlstore.types", "mrlstore.residency", "mrlstore.log", "mrlstore.wanted"},
    {"mrlstore.embedders"},
    {"mrlstore.files", "mrlstore.where", "mrlstore.keywords", "mrlstore.kernels", "mrlstore.vectors"},
    {"mrlstore.loaded"},
    {"mrlstore.parts", "mrlstore.columns", "mrlstore.group", "mrlstore.batch", "mrlstore.texts"},
    {"mrlstore.codes", "mrlstore.ways"},
    {"mrlstore.graph", "mrlstore.plan"},
    {"mrlstore.catalogue", "mrlstore.curves"},
    {"mrlstore.segment", "mrlstore.tail"},
    {"mrlstore.snapshot"},
    {"mrlstore.search", "mrlstore.core", "mrlstore.truth", "mrlstore.explain", "mrlstore.audit"},
    {"mrlstore.efforts", "mrlstore.shortcut", "mrlstore.hydrate"},
    {"mrlstore.calibrate"},
    {"mrlstore.query", "mrlstore.records", "mrlstore.writer"},
    {"mrlstore.arguments", "mrlstore.hybrid", "mrlstore.statistics", "mrlstore.ingest"},
    {"mrlstore.merge", "mrlstore.garbage", "mrlstore.salvage"},
    {"mrlstore.maintain", "mrlstore.verify", "mrlstore.repair", "mrlstore.backup", "mrlstore.create"},
    {"mrlstore.background", "mrlstore.tiers"},
    {"mrlstore.handle"},
    {"mrlstore.recall", "mrlstore.aio"},
    {"mrlstore.store"},
    {"mrlstore.opening"},
    {"mrlstore"},  # the face
    {"mrlstore.exchange", "mrlstore.telemetry"},
    {"mrlstore.integrations"},
    {"mrlstore.cli"},
]

# A third-party package, and the only modules that may import it.
HOMES = {
    "numba": {"mrlstore.kernels"},
    "llvmlite": {"mrlstore.kernels"},
    # The embedders keep answers that were paid for in a database of their own, never in the store's.
    "apsw": {"mrlstore.catalogue", "mrlstore.files", "mrlstore.embedders.cache", "mrlstore.embedders.gemini"},
    "sqlite3": set(),
    "click": {"mrlstore.cli"},
    "rich": {"mrlstore.cli"},
    "sklearn": {"mrlstore.embedders.local"},
    "scipy": {"mrlstore.embedders.local"},
    "google": {"mrlstore.embedders.gemini"},
    "matplotlib": {"mrlstore.tiers.page"},
    "haystack": {"mrlstore.integrations.haystack"},
    "llama_index": {"mrlstore.integrations.llama_index"},
    "langchain_core": {"mrlstore.integrations.langchain"},
    "opentelemetry": {"mrlstore.telemetry"},
    "mteb": {"mrlstore.integrations.mteb"},
    "qdrant_client": {"mrlstore.exchange.migrate.qdrant"},
    "chromadb": {"mrlstore.exchange.migrate.chroma"},
    "lancedb": {"mrlstore.exchange.migrate.lance"},
    "pinecone": {"mrlstore.exchange.migrate.pinecone"},
    "faiss": {"mrlstore.exchange.migrate.faiss"},
    "pyarrow": {"mrlstore.exchange"},
    "pandas": {"mrlstore.exchange"},
    "polars": {"mrlstore.exchange"},
    "pickle": set(),
}

# Modules that need a framework which is not installed beside the library, and the extra that brings it.
FRAMEWORKS = {
    "mrlstore.integrations.llama_index": ("llama_index", "llama-index"),
    "mrlstore.integrations.haystack": ("haystack", "haystack"),
    "mrlstore.integrations.langchain": ("langchain_core", "langchain"),
    "mrlstore.integrations.mteb": ("mteb", "mteb"),
}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def absolute(node: ast.ImportFrom, path: Path) -> str:
    """The module of a `from ... import`, relative ones resolved."""
    if not node.level:
        return node.module or ""
    around = path.relative_to(PACKAGE.parent).parts[: -node.level]
    return ".".join((*around, *([node.module] if node.module else [])))


def imports_of(path: Path) -> set[str]:
    """All modules that a file imports, inside functions too; those for type checking alone left out."""
    found: set[str] = set()
    unchecked: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while unchecked:
        node = unchecked.pop()
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = absolute(node, path)
            names = [f"{source}.{alias.name}" for alias in node.names]
            found.update(name if name in MODULES else source for name in names)
        for_types = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        unchecked.extend(() if for_types else ast.iter_child_nodes(node))
    return found


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def layer_of(module: str) -> int:
    """The number of the layer that names a module or a package around it."""
    for number, layer in enumerate(LAYERS):
        if module in layer or any(within(module, name) for name in layer if name != "mrlstore"):
            return number
    raise AssertionError(f"{module} stands in no layer: say in {__file__} where it belongs")


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_nothing_above_it(module: str) -> None:
    for imported in imports_of(MODULES[module]) & MODULES.keys():
        assert layer_of(imported) <= layer_of(module), f"{module} imports {imported}, which is higher"


@pytest.mark.parametrize("package", HOMES)
def test_a_package_is_imported_only_at_its_home(package: str) -> None:
    for module, path in MODULES.items():
        if any(within(imported, package) for imported in imports_of(path)):
            assert any(within(module, home) for home in HOMES[package]), f"{module} imports {package}"


def loaded_after(program: str, *packages: str) -> set[str]:
    """Which of the packages a fresh interpreter has loaded after a program."""
    program += f"\nimport sys\nprint(*[name for name in {packages!r} if name in sys.modules])"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(finished.stdout.split())


def test_importing_the_package_loads_no_heavy_package() -> None:
    heavy = ("numba", "llvmlite", "hnswlib", "sklearn", "scipy", "click", "rich", "google.genai", "sqlite3")
    heavy += ("pyarrow", "pandas", "polars", "opentelemetry")
    assert loaded_after("import mrlstore", *heavy) == set()
    assert loaded_after("import mrlstore", "mrlstore") == {"mrlstore"}


def test_every_module_but_optional_ones_can_be_imported() -> None:
    bare = [module for module in MODULES if not any(within(module, name) for name in FRAMEWORKS)]
    wanted = [module for module in bare if not module.endswith("__main__")]
    program = "\n".join(f"import {module}" for module in wanted)
    subprocess.run([sys.executable, "-W", "error", "-c", program], check=True)


@pytest.mark.parametrize("module", FRAMEWORKS)
def test_without_its_framework_an_integration_says_which_extra_to_install(module: str) -> None:
    framework, extra = FRAMEWORKS[module]
    program = f"import sys\nsys.modules[{framework!r}] = None\nimport {module}"
    finished = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert finished.returncode == 1
    last = finished.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: ") and f"pip install 'mrlstore[{extra}]'" in last
