"""The Triton kernels compiled ahead of time for GPUs that are not there: no register is spilled."""

import dataclasses
import os
import pathlib
import re
import subprocess

import pytest

triton = pytest.importorskip("triton")

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from sparc.train.kernels import triton_kernels  # noqa: E402

pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing"
)


@dataclasses.dataclass(frozen=True)
class Kernel:
    """A kernel with its run-time arguments; `f` stands for the floating-point type."""

    function: object
    arguments: dict[str, str]
    constants: tuple[str, ...]


KERNELS = {
    "decode": Kernel(
        triton_kernels.decode_kernel,
        {"indices": "*i64", "values": "*f", "weight": "*f", "out": "*f", "k": "i32", "dim": "i32"},
        ("VECTORS", "VECTORS_POW2", "BLOCK_DIM", "SUM"),
    ),
    "value_gradients": Kernel(
        triton_kernels.value_gradients_kernel,
        {"indices": "*i64", "vectors": "*f", "weight": "*f", "out": "*f", "k": "i32", "dim": "i32"},
        ("VECTORS", "VECTORS_POW2", "BLOCK_TERMS", "BLOCK_DIM", "SUM"),
    ),
    "weight_gradient": Kernel(
        triton_kernels.weight_gradient_kernel,
        {
            "rows": "*i64",
            "values": "*f",
            "offsets": "*i64",
            "vectors": "*f",
            "out": "*f",
            "first": "i32",
            "dim": "i32",
        },
        ("BLOCK_TERMS", "BLOCK_DIM", "SUM"),
    ),
}


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize(
    ("architecture", "dtype", "vectors"),
    [(80, "fp32", 3), (90, "fp32", 1), (90, "fp32", 8), (90, "bf16", 3), (100, "bf16", 3)],
)
def test_no_register_is_spilled(name, architecture, dtype, vectors, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    kernel = KERNELS[name]
    constants = {
        "VECTORS": vectors,
        "VECTORS_POW2": triton.next_power_of_2(vectors),
        "BLOCK_DIM": triton_kernels._BLOCK_DIM,
        "BLOCK_TERMS": triton_kernels._BLOCK_TERMS,
        "SUM": triton.language.float32,
    }
    constants = {constant: constants[constant] for constant in kernel.constants}
    signature = {key: kind.replace("*f", f"*{dtype}") for key, kind in kernel.arguments.items()}
    signature |= dict.fromkeys(constants, "constexpr")
    source = ASTSource(fn=kernel.function, signature=signature, constexprs=constants)
    compiled = triton.compile(source, target=GPUTarget("cuda", architecture, 32))
    spilled = spilled_bytes(compiled.asm["ptx"], architecture, tmp_path)
    assert spilled == 0, f"{spilled} bytes spilled"


def spilled_bytes(ptx: str, architecture: int, folder: pathlib.Path) -> int:
    """What the assembler that Triton ships says about register spills."""
    tools = pathlib.Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
    assembler = tools / ("ptxas-blackwell" if architecture >= 100 else "ptxas")
    (folder / "kernel.ptx").write_text(ptx)
    target = re.search(r"^\.target (\w+)", ptx, re.MULTILINE).group(1)
    command = [assembler, "-v", f"--gpu-name={target}", "kernel.ptx", "-o", "kernel.cubin"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    counts = re.findall(r"(\d+) bytes spill (?:stores|loads)", result.stderr)
    assert counts, result.stderr
    return sum(map(int, counts))
