"""`narrowcast layer-wise`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from flows.command_line.run import quantize
from flows.command_line.table_command import GroupedCommand, check_given

if TYPE_CHECKING:
    from quant_core.config import LayerWiseConfig
    from quant_core.options import Option

__all__ = ["inputs_and_config", "layer_wise"]


def _table() -> Sequence[Option]:
    from flows.options.catalogue import layer_wise_options

    return layer_wise_options()


@click.command("layer-wise", cls=GroupedCommand, table=_table)
@click.option("--config", metavar="FILE.yaml", type=click.Path(), help="Options from a file; those given here win.")
@click.option("--dry-run", is_flag=True, help="Print what there is to do, and about how long it takes; do nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print nothing but the manifest, as JSON.")
def layer_wise(as_json: bool, dry_run: bool, config: str | None, **given: Any) -> None:
    """Quantize MODEL with the types that a file gives to its layers and tensors.

    \b
    int8: ["/block3/*", "/head/Gemm"]       a layer: activations and weight
    a8w4: ["/block4/conv/Conv"]
    int16: ["tensor:/block2/Add_output_0"]  a tensor, for all its readers

    \b
    narrowcast layer-wise model.onnx --tensors types.yaml --calibration calib.npz \\
        --evaluation eval.npz --out quantized

    Everything else is wide. The manifest of an earlier run is such a file too, and brings the options it was made
    with: edit its plan and give it back. Exit code 0: written, and the target met if there is one, 1: a bug or an
    outage, 2: bad input, 3: target missed.
    """
    if dry_run:
        from flows.command_line.dry_run import print_dry_run

        print_dry_run(*inputs_and_config(config, given), as_json)
        return
    sys.exit(quantize(*inputs_and_config(config, given), as_json))


def inputs_and_config(config: str | None, given: dict[str, Any]) -> tuple[dict[str, Any], LayerWiseConfig]:
    """Return the inputs and the configuration that the flags, the options file and the file of types give."""
    from flows.options.inputs import LayerWiseInputs
    from flows.options.run_options import options_from_file, required_of, run_options
    from quant_core.assignments.assignment_file import read_plan
    from quant_core.config import LayerWiseConfig

    inputs = tuple(LayerWiseInputs.model_fields)
    file = options_from_file(config, LayerWiseConfig, inputs)
    chosen = {name: value for name, value in given.items() if value is not None}
    check_given("layer-wise", LayerWiseInputs, chosen, file.has)
    plan = chosen.get("tensors") or file.options.get("tensors")
    settings = read_plan(plan).settings if isinstance(plan, str) else {}
    kept = {name: value for name, value in settings.items() if name not in file.options}
    return run_options(file, kept | chosen, LayerWiseConfig, inputs, required_of(LayerWiseInputs))
