"""Behind the audit's commands: its run, report, rows and labels, predictions, and turns between processes."""
