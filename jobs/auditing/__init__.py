"""What stands behind the audit's commands: its rows, labels, predictions, and who may work on a run beside
whom."""
