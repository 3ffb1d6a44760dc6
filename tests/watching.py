"""A watcher that keeps what it is warned of."""

from quant_core.execution.progress import Watcher


class Said(Watcher):
    """What was said, in order."""

    def __init__(self):
        self.said = []

    def warned(self, message):
        self.said.append(message)
