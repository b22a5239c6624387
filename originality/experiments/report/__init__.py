"""What the experiments show: statistics, figures, and the page docs/paper.md."""
