"""The rules between modules: lower layers never import higher ones, and heavy packages have one home each."""

from __future__ import annotations

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "mrlstore"

# The packages, from the outermost to the innermost. An arrow may run down this list and within a package; the
# rooms of one package may not import each other in a circle.
ORDER = [
    "cli",
    "server",
    "cluster",
    "integrations",
    "exchange",
    "telemetry",
    "__init__",
    "client",
    "wire",
    "api",
    "shipping",
    "ingest",
    "maintenance",
    "recall",
    "shared_log",
    "writing",
    "search",
    "storage",
    "planning",
    "index",
    "columns",
    "catalogue",
    "where",
    "embedders",
    "object_storage",
    "kernels",
    "system",
    "checks",
    "types",
    "errors",
    "version",
]

# A third-party package, and the only modules that may import it.
HOMES = {
    "numba": {"mrlstore.kernels"},
    "llvmlite": {"mrlstore.kernels"},
    # The embedders keep answers that were paid for in a database of their own, never in the store's.
    "apsw": {
        "mrlstore.catalogue",
        "mrlstore.system.files",
        "mrlstore.system.forks",
        "mrlstore.embedders.cache",
        "mrlstore.embedders.gemini",
    },
    "sqlite3": set(),
    "click": {"mrlstore.cli"},
    "rich": {"mrlstore.cli"},
    "sklearn": {"mrlstore.embedders.local"},
    "scipy": {"mrlstore.embedders.local"},
    "google": {"mrlstore.embedders.gemini"},
    "matplotlib": {"mrlstore.recall.tiers.plots"},
    "haystack": {"mrlstore.integrations.haystack"},
    "llama_index": {"mrlstore.integrations.llama_index"},
    "langchain_core": {"mrlstore.integrations.langchain"},
    "opentelemetry": {"mrlstore.telemetry", "mrlstore.server.http_spans"},
    "mteb": {"mrlstore.integrations.mteb"},
    "starlette": {"mrlstore.server"},
    "uvicorn": {"mrlstore.server"},
    "orjson": {"mrlstore.server"},
    "httpx": {"mrlstore.client"},
    "prometheus_client": {"mrlstore.server"},
    "qdrant_client": {"mrlstore.exchange.migrate.qdrant"},
    "chromadb": {"mrlstore.exchange.migrate.chroma"},
    "lancedb": {"mrlstore.exchange.migrate.lance"},
    "pinecone": {"mrlstore.exchange.migrate.pinecone"},
    "faiss": {"mrlstore.exchange.migrate.faiss"},
    "hnswlib": {"mrlstore.index.hnsw", "mrlstore.exchange.migrate.hnswlib_child"},
    "ray": {"mrlstore.cluster.ray_engine"},
    "pyarrow": {"mrlstore.exchange"},
    "pandas": {"mrlstore.exchange"},
    "polars": {"mrlstore.exchange"},
    "pathspec": {"mrlstore.ingest.file_selection"},
    "yaml": {"mrlstore.ingest.front_matter"},
    "obstore": {"mrlstore.object_storage.bucket"},
    "pickle": set(),
}

# Modules that need a framework which is not installed beside the library, and the extra that brings it.
FRAMEWORKS = {
    "mrlstore.integrations.llama_index": ("llama_index", "llama-index"),
    "mrlstore.integrations.haystack": ("haystack", "haystack"),
    "mrlstore.integrations.langchain": ("langchain_core", "langchain"),
    "mrlstore.integrations.mteb": ("mteb", "mteb"),
    "mrlstore.server": ("starlette", "server"),
    "mrlstore.cluster.ray_engine": ("ray", "ray"),
    "mrlstore.client": ("httpx", "client"),
    "mrlstore.object_storage.bucket": ("obstore", "object-storage"),
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
    """All modules that a file imports, inside functions and for type checking too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = absolute(node, path)
            names = [f"{source}.{alias.name}" for alias in node.names]
            found.update(name if name in MODULES else source for name in names)
    return found


ARROWS = {module: (imports_of(path) & MODULES.keys()) - {module} for module, path in MODULES.items()}


def within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def package_of(module: str) -> str:
    """The package or top-level module that a module belongs to."""
    return (module.split(".") + ["__init__"])[1]


def test_every_package_has_a_place_in_the_order() -> None:
    assert {package_of(module) for module in MODULES} <= set(ORDER), f"say in {__file__} where it belongs"


@pytest.mark.parametrize("module", MODULES)
def test_a_module_imports_nothing_above_it(module: str) -> None:
    for imported in sorted(imports_of(MODULES[module]) & MODULES.keys()):
        down = ORDER.index(package_of(imported)) >= ORDER.index(package_of(module))
        assert down, f"{module} imports {imported}, which is higher"


def test_no_modules_import_each_other_in_a_circle() -> None:
    try:
        tuple(TopologicalSorter(ARROWS).static_order())
    except CycleError as error:
        pytest.fail("a circle of imports: " + " -> ".join(error.args[1]))


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
    heavy: tuple[str, ...] = (
        "numba",
        "llvmlite",
        "hnswlib",
        "sklearn",
        "scipy",
        "click",
        "rich",
        "google.genai",
        "sqlite3",
        "asyncio",
        "html.parser",
        "zipfile",
    )
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
