"""A watcher that keeps what it is warned of, and what is noted."""

from quant_core.execution.progress import Watcher


class Said(Watcher):
    """What was said, in order: warnings apart from what is worth a line."""

    def __init__(self):
        self.said = []
        self.notes = []

    def noted(self, message):
        self.notes.append(message)

    def warned(self, message):
        self.said.append(message)
