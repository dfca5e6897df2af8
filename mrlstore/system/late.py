"""Modules that are imported at their first use, so that a new process starts soon."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any, Final

from mrlstore.system import forks

# Hold it while importing a module at run time: no fork takes place meanwhile. A child would find the
# interpreter's lock of a module that another thread is importing held for ever.
importing: Final = forks.long_lock()


class LateModule:
    """Stands for a module until an attribute of it is used, and passes all on to it then."""

    def __init__(self, name: str) -> None:
        self.__dict__["_name"] = name

    def _module(self) -> ModuleType:
        with importing:
            return import_module(self.__dict__["_name"])

    def __getattr__(self, attribute: str) -> Any:
        return getattr(self._module(), attribute)

    def __setattr__(self, attribute: str, value: Any) -> None:
        setattr(self._module(), attribute, value)

    def __delattr__(self, attribute: str) -> None:
        delattr(self._module(), attribute)


# numpy imports this at its first use too, but without the lock.
numpy_random: Final = LateModule("numpy.random")
# Modules of Python that most queries do not need.
random: Final = LateModule("random")
shlex: Final = LateModule("shlex")
shutil: Final = LateModule("shutil")
uuid: Final = LateModule("uuid")
