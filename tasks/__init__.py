"""The stages of quant_core as Prefect tasks, one module a stage."""
