"""The one place where the version is written; pyproject.toml and `mrlstore --version` read it here."""

__version__ = "0.1.0"
