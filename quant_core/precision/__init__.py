"""The vocabulary of a plan: data types, precisions (pairs of types) and the plan itself."""

from quant_core.precision.data_type import ACTIVATION_TYPES, WEIGHT_TYPES, DataType
from quant_core.precision.plan import PrecisionPlan
from quant_core.precision.precision import PER_TENSOR, Precision, PrecisionField

__all__ = ["ACTIVATION_TYPES", "PER_TENSOR", "WEIGHT_TYPES", "DataType", "Precision", "PrecisionField", "PrecisionPlan"]
