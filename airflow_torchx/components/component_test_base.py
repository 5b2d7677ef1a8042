"""Tests components of users, under TorchX's name."""

from __future__ import annotations

import os.path
import tempfile
import unittest
from typing import TYPE_CHECKING

from airflow_torchx.components.registry import get
from airflow_torchx.components.usage import usage

if TYPE_CHECKING:
    from types import ModuleType


class ComponentTestCase(unittest.TestCase):
    """Tests components; each test has an empty folder, ``self.test_dir``."""

    def setUp(self) -> None:
        """Create the folder of the test."""
        self.test_dir = self.enterContext(tempfile.TemporaryDirectory())

    def validate(self, module: ModuleType, function_name: str) -> None:
        """Fail unless a command line can call a component in the file of a module.

        Raises:
            ComponentError: the function does not exist, does not return an app, or has parameters
                that a command line cannot set.
        """
        name = f"{os.path.abspath(module.__file__ or '')}:{function_name}"  # noqa: PTH100 - as in tracebacks
        usage(name, get(name))
