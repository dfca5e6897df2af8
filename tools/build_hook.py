"""Puts the kernels' machine code into the wheel: run by hatchling when it builds one.

A wheel with machine code is tagged for its platform. Where the code cannot be built (no linker, or
another kind of processor) the wheel is one for all platforms, and numba compiles the kernels later.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

MACHINE_CODE = Path("mrlstore/kernels/machine_code")


class KernelsHook(BuildHookInterface):
    """The hook of [tool.hatch.build.targets.wheel.hooks.custom]."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Build the libraries and take them into the wheel.

        An editable installation uses what lies in the checkout.
        """
        if version == "editable":
            return
        command = [sys.executable, "-m", "mrlstore.kernels.build", "--strict"]
        if subprocess.run(command, cwd=self.root).returncode == 0:
            build_data["artifacts"] += [f"{MACHINE_CODE}/*.so", f"{MACHINE_CODE}/*.json"]
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{platform_tag()}"


def platform_tag() -> str:
    """The platform of the libraries, which need nothing but three old functions of the C library."""
    name, _, machine = sysconfig.get_platform().replace(".", "_").partition("-")
    if name == "linux":
        return f"manylinux_2_17_{machine}"
    return f"{name}_{machine}".replace("-", "_")
