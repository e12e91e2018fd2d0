"""What building encoders costs, and what it imports."""

import subprocess
import sys

import torch

from sparc.extract.encoders import build_encoders
from sparc.extract.encoders.encoder import Encoders


def test_importing_the_package_imports_no_model_library():
    code = (
        "import sys, sparc.extract.encoders; "
        "print([m for m in ('torch', 'timm', 'open_clip', 'transformers') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"


def test_no_streams_no_encoders():
    assert build_encoders({}, torch.device("cpu")) == Encoders({}, {})
