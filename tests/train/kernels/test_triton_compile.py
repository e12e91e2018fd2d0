"""The Triton kernels compiled ahead of time for GPUs that are not there.

No register is spilled, and shared memory is within what a block can have on the chip.
"""

import os
import pathlib
import re
import subprocess
from typing import Literal, NamedTuple

import pytest

triton = pytest.importorskip("triton")
pytest.importorskip("sparc.train.kernels.triton.tiles", exc_type=ImportError)  # Triton is too old

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource, CompiledKernel  # noqa: E402

from sparc.train.kernels.adam import BETA1, BETA2, EPSILON  # noqa: E402
from sparc.train.kernels.triton import bags, compare, decode, select, update  # noqa: E402

pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") == "1", reason="the interpreter compiles nothing"
)

SHARED_BYTES = {80: 163 << 10, 90: 227 << 10, 100: 227 << 10}
"""By compute capability, what a block can have (CUDA C++ Programming Guide, table 27)."""


class Size(NamedTuple):
    """What a kernel is compiled for.

    `numbers` says what is known of run-time numbers and addresses: that 16 divides them, so that
    16 bytes are read at once; nothing; or that all numbers are one, which Triton makes constants.
    """

    architecture: int
    dtype: str
    vectors: int
    dim: int
    numbers: Literal["of 16", "odd", "one"] = "of 16"


SIZES = [
    Size(80, "fp32", 3, 768),
    Size(80, "fp32", 8, 4096),
    Size(90, "fp32", 1, 768, "odd"),
    Size(90, "fp32", 2, 1024),
    Size(90, "fp32", 4, 1024),
    Size(90, "fp32", 8, 1024, "odd"),
    Size(90, "bf16", 3, 4096),
    Size(100, "fp32", 3, 768),
    Size(100, "bf16", 8, 4096),
    Size(90, "fp32", 1, 1, "one"),
]


class Kernel(NamedTuple):
    """A kernel's pointers and numbers by name, `f` being the type of features, and its constants.

    Floats that are None are arguments that are not given.
    """

    function: object
    arguments: dict[str, object]
    constants: dict[str, object]


def kernel(name: str, size: Size) -> Kernel:
    vectors, dim = size.vectors, size.dim
    decoding = {"indices": "*i64", "values": "*f", "weight": "*f"}
    numbers = {"k": "i32", "dim": "i32"}
    bag = {"rows": "*i64", "values": "*f", "offsets": "*i64", "vectors": "*f"}
    many = {"VECTORS": vectors, "VECTORS_POW2": triton.next_power_of_2(vectors)}
    sums = {"SUM": triton.language.float32}
    if name == "select":
        arguments = {
            "products": ("*f",) * vectors,
            "biases": ("*f",) * vectors,
            "bias": "*fp32",
            "indices": "*i64",
            "values": "*f",
            "latents": "i32",
            "k": "i32",
        }
        constants = {"STREAMS": vectors, "KEY": triton.language.uint32}
        return Kernel(
            select.select_kernel,
            arguments,
            constants | sums | select.select_blocks(1024),
        )
    if name == "select_from_many":
        arguments = {
            "products": ("*f",) * vectors,
            "biases": ("*f",) * vectors,
            "bias": "*fp32",
            "keys": "*u32",
            "candidates": "*i32",
            "indices": "*i64",
            "values": "*f",
            "latents": "i32",
            "k": "i32",
        }
        latents = 65536 if vectors == 4 else 8192
        constants = {"STREAMS": vectors, "KEY": triton.language.uint32}
        return Kernel(
            select.select_from_many_kernel,
            arguments,
            constants | sums | select.select_from_many_blocks(latents, vectors),
        )
    if name == "compare":
        outputs = {"square_errors": "*f", "residuals": "*f", "products": "*f"}
        return Kernel(
            compare.compare_kernel,
            decoding | {"targets": "*f", "scales": "*f"} | outputs | numbers | {"repeats": "i32"},
            many | sums | compare.compare_blocks(vectors, dim),
        )
    if name == "square_errors":
        return Kernel(
            compare.square_errors_kernel,
            decoding | {"targets": "*f", "square_errors": "*f"} | numbers | {"repeats": "i32"},
            many | sums | compare.square_errors_blocks(vectors, dim),
        )
    if name == "decode":
        return Kernel(
            decode.decode_kernel,
            decoding | {"out": "*f"} | numbers,
            many | sums | decode.decode_blocks(vectors),
        )
    if name == "value_gradients":
        return Kernel(
            decode.value_gradients_kernel,
            {"indices": "*i64", "vectors": "*f", "weight": "*f", "out": "*f"} | numbers,
            many | sums | decode.value_gradients_blocks(vectors),
        )
    if name in ("weight_gradient", "weight_gradient_of_long_bags"):
        terms = 1000 if name == "weight_gradient_of_long_bags" else 1
        return Kernel(
            bags.weight_gradient_kernel,
            bag | {"out": "*f", "first_latent": "i32", "dim": "i32"},
            sums | bags.weight_gradient_blocks(dim, terms),
        )
    given = vectors > 1  # a case without what need not be there
    summed = name == "update_from_sums"
    arguments = (
        {"weight": "*f", "first_moments": "*f", "second_moments": "*f"}
        | bag
        | {
            "summed": "*f",
            "added_latents": "*i64",
            "added_rows": "*f",
            "parallel": "*f",
            "scale": "*f",
        }
        | {"factors": "*fp64", "first_latent": "i32", "dim": "i32"}
    )
    optional = {} if given else dict.fromkeys(("added_latents", "added_rows", "parallel", "scale"))
    optional |= dict.fromkeys(bag if summed else ("summed",))
    return Kernel(
        update.update_kernel,
        {name: kind for name, kind in arguments.items() if name not in optional},
        optional
        | {"BETA1": BETA1, "BETA2": BETA2, "EPSILON": EPSILON, "UNIT_ROWS": given}
        | sums
        | update.update_blocks(dim, terms=0 if size.architecture == 80 else 1000),
    )


NAMES = [
    "select",
    "select_from_many",
    "compare",
    "square_errors",
    "decode",
    "value_gradients",
    "weight_gradient",
    "weight_gradient_of_long_bags",
    "update",
    "update_from_sums",
]


def compiled(name: str, size: Size) -> CompiledKernel:
    function, arguments, constants = kernel(name, size)
    options = {"num_warps": constants.pop("num_warps")}

    def typed(kind):
        if isinstance(kind, tuple):
            return tuple(map(typed, kind))
        return f"*{size.dtype}" if kind == "*f" else kind

    if size.numbers == "one":
        constants |= {argument: 1 for argument, kind in arguments.items() if kind == "i32"}
    signature = {argument: typed(kind) for argument, kind in arguments.items()}
    signature |= dict.fromkeys(constants, "constexpr")
    signature = {argument: signature[argument] for argument in function.arg_names}
    attributes = {}
    if size.numbers == "of 16":
        for position, kind in enumerate(signature.values()):
            parts = range(len(kind)) if isinstance(kind, tuple) else [None]
            if kind != "constexpr":
                paths = [(position,) if part is None else (position, part) for part in parts]
                attributes |= {path: [["tt.divisibility", 16]] for path in paths}
    source = ASTSource(fn=function, signature=signature, constexprs=constants, attrs=attributes)
    target = GPUTarget("cuda", size.architecture, 32)
    return triton.compile(source, target=target, options=options)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", SIZES, ids=lambda size: "-".join(map(str, size)))
def test_a_kernel_fits_the_chip(name, size, tmp_path, monkeypatch):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    built = compiled(name, size)
    assert built.metadata.shared <= SHARED_BYTES[size.architecture]
    spilled = spilled_bytes(built.asm["ptx"], size.architecture, tmp_path)
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
