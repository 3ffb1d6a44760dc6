"""How long models and their layers take in ONNX Runtime, and what layers cost by that."""

from quant_core.latency.device_costs import DeviceCosts, read_device_costs
from quant_core.latency.device_timer import DeviceTimer, load_timer
from quant_core.latency.device_times import device_times
from quant_core.latency.layer_times import layer_times
from quant_core.latency.model_times import model_times
from quant_core.latency.prices import LATENCY, device_cost, measured_cost

__all__ = [
    "LATENCY",
    "DeviceCosts",
    "DeviceTimer",
    "device_cost",
    "device_times",
    "layer_times",
    "load_timer",
    "measured_cost",
    "model_times",
    "read_device_costs",
]
