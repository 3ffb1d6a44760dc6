"""`narrowcast mlflow`."""

from __future__ import annotations

import click

__all__ = ["mlflow"]


@click.command()
@click.argument("folder", metavar="DIR", type=click.Path())
@click.option(
    "--tracking-uri", metavar="URI", required=True, help="Where MLflow keeps runs: a server, or sqlite:///FILE."
)
@click.option(
    "--experiment", metavar="NAME", default="narrowcast", show_default=True, help="What runs are listed under."
)
def mlflow(folder: str, tracking_uri: str, experiment: str) -> None:
    """Log a finished run to MLflow: options, scores, plan, model and report, from its output folder DIR.

    \b
    narrowcast mlflow quantized --tracking-uri sqlite:///mlflow.db
    narrowcast mlflow s3://bucket/quantized --tracking-uri http://SERVER:5000 --experiment resnet20

    It needs narrowcast[mlflow]. A run that is logged already is not logged again; its id in MLflow is printed.
    """
    from quant_core.results.mlflow_log import log_to_mlflow
    from quant_core.results.outcome import open_outcome

    click.echo(log_to_mlflow(open_outcome(folder), tracking_uri, experiment))
